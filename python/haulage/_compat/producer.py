"""``Producer``, by the names that code from before Haulage uses."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._status import Status
from ..errors import AwaitingResultTimeoutError, ResultErrorStatusError, WaitTimeoutError
from .dynamodb import DynamoDBClient, ResultStatus, compat_errors, result_status
from .location import ClientSettings, check_settings, place

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack

    from .._haulage import Record
    from .._options import JobOptions


@dataclass(frozen=True)
class Response:
    """What became of a job."""

    message_id: str
    """The job's id."""
    request_id: str
    """The caller's correlation id; the job's id where none was given."""
    status: ResultStatus
    """``SUCCESS`` or ``ERROR``."""
    status_code: int
    """200 or 500."""
    result: Any
    """The result, which may be ``None``."""
    error: Exception | None
    """``ResultErrorStatusError`` or ``AwaitingResultTimeoutError``; ``None`` where all is well."""


class Producer:
    """Posts jobs to the queue ``queue_name``, and gets their results.

    ``message_group_id_mode`` puts jobs into groups, whose jobs run one at a time, in order:
    ``"global"`` all into one, ``"producer"`` those of this producer, ``"request"`` those of one
    request id. Default: no groups, all jobs run side by side. ``timeout_seconds`` is how long
    ``post`` and ``retrieve_result`` wait; it can be set later, like ``poll_time_seconds``, which is
    kept for old callers: a wait is told of the end.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        ddb_client: DynamoDBClient,
        message_group_id_mode: Literal["global", "producer", "request"] | None = None,
        timeout_seconds: float = 300,
        poll_time_seconds: float = 1,
        **client_settings: Unpack[ClientSettings],
    ) -> None:
        check_settings(client_settings)
        if message_group_id_mode not in (None, "global", "producer", "request"):
            raise ValueError(
                f"message_group_id_mode is {message_group_id_mode!r}; it is 'global', 'producer' or 'request'"
            )
        self.queue_name = queue_name
        """The queue."""
        self.ddb_client = ddb_client
        """The records."""
        self.message_group_id_mode = message_group_id_mode
        """How jobs are grouped."""
        self.timeout_seconds = timeout_seconds
        """How long to wait for a result."""
        self.poll_time_seconds = poll_time_seconds
        """Kept for old callers."""
        self._id = uuid.uuid4().hex
        self._place = place(queue_name, ddb_client.table_name, client_settings, ddb_client.settings)
        ddb_client.bind(self._place)

    def post_non_blocking(self, body: Any, request_id: str | None = None) -> str:
        """Posts a job; its id. Once this has returned, the job is not lost any more."""
        options: JobOptions = {"request_id": request_id, "group": self._group(request_id)}
        return self._place.client.submit(body, **options).id

    def _group(self, request_id: str | None) -> str | None:
        if self.message_group_id_mode == "global":
            return "global"
        if self.message_group_id_mode == "producer":
            return self._id
        return request_id if self.message_group_id_mode == "request" else None

    def post(self, body: Any, request_id: str | None = None) -> Response:
        """Posts a job, and waits for its result.

        Does not raise when the job failed, or took longer than ``timeout_seconds``: the
        response says so.
        """
        message_id = self.post_non_blocking(body, request_id)
        return self._wait(message_id, request_id or message_id)

    def retrieve_result_status(self, message_id: str) -> ResultStatus:
        """Where the job is. Raises ``KeyNotFoundError``, ``ExpiredItemError``."""
        with compat_errors():
            return result_status(self._place.client.record(message_id).status)

    def retrieve_result(self, message_id: str) -> Response:
        """The result, once it is there; as with ``post``, failures are in the response.

        Raises ``KeyNotFoundError``, ``ExpiredItemError``.
        """
        return self._wait(message_id, None)

    def _wait(self, message_id: str, request_id: str | None) -> Response:
        client = self._place.client
        with compat_errors():
            try:
                return _response(client.wait([message_id], self.timeout_seconds)[0])
            except WaitTimeoutError:
                request_id = request_id or client.record(message_id).request_id
        late = AwaitingResultTimeoutError(
            f"job {message_id} has no result after {self.timeout_seconds} s; it goes on"
        )
        return Response(message_id, request_id, ResultStatus.ERROR, 500, None, late)


def _response(record: Record) -> Response:
    if record.status is Status.SUCCESS:
        return Response(record.id, record.request_id, ResultStatus.SUCCESS, 200, record.result, None)
    error = ResultErrorStatusError(record.error or "the job was cancelled")
    return Response(record.id, record.request_id, ResultStatus.ERROR, 500, None, error)

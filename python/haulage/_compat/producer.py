"""``Producer``, by the names that code from before Haulage uses."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .dynamodb import DynamoDBClient
from .errors import AwaitingResultTimeoutError, ResultErrorStatusError
from .item import ResultStatus
from .location import ClientSettings, check_settings, ping, place
from .values import as_json

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack

    from .._options import JobOptions


@dataclass
class Response:
    """What became of a job."""

    message_id: str
    """The job's id."""
    request_id: str | None = None
    """The caller's correlation id."""
    status: ResultStatus = ResultStatus.SUCCESS
    """``SUCCESS`` or ``ERROR``."""
    status_code: int = 200
    """200 or 500."""
    result: Any = None
    """The result, which may be ``None``."""
    error: Exception | None = None
    """``ResultErrorStatusError`` or ``AwaitingResultTimeoutError``; ``None`` where all is well."""

    @classmethod
    def from_exp(cls, exp: Exception, message_id: str, status_code: int) -> Response:
        """The response of a job that failed, with the error that says so."""
        return cls(message_id, None, ResultStatus.ERROR, status_code, None, exp)


class Producer:
    """Posts jobs to the queue ``queue_name``, and gets their results.

    ``message_group_id_mode`` puts jobs into groups, whose jobs run one at a time, in order:
    ``"global"`` all into one, ``"producer"`` those of this producer, ``"request"`` those of one
    request id. Default: no groups, all jobs run side by side. ``timeout_seconds`` is how long
    ``post`` and ``retrieve_result`` wait; it can be set later, like ``poll_time_seconds``, which is
    kept for old callers: a wait is told of the end. The handler finds the request id in a body
    that is a ``dict``, under ``"request_id"``; with ``request_id_in_body=False``, a body is sent as
    it is.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        ddb_client: DynamoDBClient,
        message_group_id_mode: Literal["global", "producer", "request"] | None = None,
        timeout_seconds: float = 300,
        poll_time_seconds: float = 1,
        request_id_in_body: bool = True,
        **client_settings: Unpack[ClientSettings],
    ) -> None:
        check_settings(client_settings, "2012-11-05")
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
        self.request_id_in_body = request_id_in_body
        """Whether the handler finds the request id in the body."""
        self._id = uuid.uuid4().hex
        self._place = place(queue_name, ddb_client.table_name, client_settings, ddb_client.settings)
        ddb_client.bind(self._place)

    def post_non_blocking(self, message_body: Any, request_id: str | None = None) -> str:
        """Posts a job; its id. Once this has returned, the job is not lost any more.

        Without a ``request_id``, it gets one. The caller's body stays as it is.
        """
        request_id = request_id or str(uuid.uuid4())
        body: Any = as_json(message_body)
        if self.request_id_in_body and isinstance(body, dict):
            body = {**cast("dict[str, Any]", body), "request_id": request_id}
        options: JobOptions = {"request_id": request_id, "group": self._group(request_id)}
        return self._place.client.submit(body, **options).id

    def _group(self, request_id: str) -> str | None:
        if self.message_group_id_mode == "global":
            return "global"
        if self.message_group_id_mode == "producer":
            return self._id
        return request_id if self.message_group_id_mode == "request" else None

    def post(self, message_body: Any, request_id: str | None = None) -> Response:
        """Posts a job, and waits for its result.

        Does not raise when the job failed, or took longer than ``timeout_seconds``: the
        response says so.
        """
        request_id = request_id or str(uuid.uuid4())
        return self._wait(self.post_non_blocking(message_body, request_id), request_id)

    def retrieve_result_status(self, message_id: str) -> ResultStatus:
        """Where the job is; ``ERROR`` where its record has expired. Raises ``KeyNotFoundError``."""
        return self.ddb_client.status_get(message_id)

    def retrieve_result(self, message_id: str) -> Response:
        """The result, once it is there; as with ``post``, failures are in the response.

        Raises ``KeyNotFoundError``, ``ExpiredItemError``.
        """
        return self._wait(message_id, self.ddb_client.item_get(message_id).request_id)

    def _wait(self, message_id: str, request_id: str | None) -> Response:
        client = self.ddb_client
        try:
            result = client.result_poll(message_id, self.timeout_seconds, self.poll_time_seconds)
        except (ResultErrorStatusError, AwaitingResultTimeoutError) as error:
            response = Response.from_exp(error, message_id, 500)
            response.request_id = request_id
            return response
        return Response(message_id, request_id, result=result)

    def ping_queue(self) -> Literal["pong"]:
        """``"pong"``; ``SQSConnectionError`` where the queue or the place of the records does not answer."""
        return ping(self._place)

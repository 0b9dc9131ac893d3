"""``DynamoDBClient``: the records, by the names that code from before Haulage uses."""

from __future__ import annotations

import contextlib
import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from .._status import Status
from ..errors import (
    AwaitingResultTimeoutError,
    ConfigError,
    DDBError,
    ExpiredError,
    ExpiredItemError,
    HaulageError,
    KeyAlreadyExistsError,
    KeyNotFoundError,
    NotFoundError,
    ResultErrorStatusError,
    ResultInProgressStatusError,
    ResultMissingError,
    UnparseableItemError,
    WaitTimeoutError,
)
from .items import DEFAULT_TTL_SECONDS, Items
from .location import ClientSettings, Place, check_settings, elsewhere, place, table_place

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Unpack

    from .._haulage import Record


class ResultStatus(str, Enum):
    """Where a job is: ``SUBMITTED`` → ``IN_PROGRESS`` → ``SUCCESS`` or ``ERROR``.

    A job that was cancelled is in ``ERROR`` here.
    """

    SUBMITTED = "SUBMITTED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"

    def __str__(self) -> str:
        return self.value


def result_status(status: Status) -> ResultStatus:
    """A status by the names of the compatible interface."""
    return ResultStatus.ERROR if status is Status.CANCELLED else ResultStatus(status.value)


@contextlib.contextmanager
def compat_errors() -> Generator[None, None, None]:
    """Raises what there is no record for by the names of the compatible interface."""
    try:
        yield
    except NotFoundError as error:
        raise KeyNotFoundError(str(error)) from error
    except ExpiredError as error:
        raise ExpiredItemError(str(error)) from error


class DynamoDBClient:
    """The records of jobs, in the table ``table_name``.

    ``table`` is another name of the argument. Where ``HAULAGE_URL`` names a place of this
    machine, the records are there. Each method raises ``KeyNotFoundError`` for an unknown id,
    ``ExpiredItemError`` for a record whose time is over, and ``UnparseableItemError`` for one
    that is not as it should be, unless it says otherwise.
    """

    def __init__(
        self,
        table_name: str | None = None,
        *,
        table: str | None = None,
        **client_settings: Unpack[ClientSettings],
    ) -> None:
        check_settings(client_settings)
        if (table_name is None) == (table is None):
            raise TypeError("give the table's name once, as table_name or as table")
        self.table_name = table_name if table_name is not None else str(table)
        """The table."""
        self.settings = client_settings
        self._bound: list[Place] = []
        self._alone: Place | None = None

    def bind(self, where: Place) -> None:
        """Tells where a queue is whose records these are. ``Producer`` and ``Consumer`` do."""
        if all(known.records != where.records for known in self._bound):
            self._bound.append(where)

    @property
    def _places(self) -> list[Place]:
        """Where records may be: one place but on one machine, where each queue has its own."""
        if self._bound:
            return self._bound
        if self._alone is None:
            url = elsewhere()
            if url is None:
                self._alone = table_place(self.table_name, self.settings)
            elif "{queue}" in url:
                raise ConfigError(
                    f"the records of table {self.table_name} belong to a queue, which is not known yet; "
                    "give this client to a Producer or a Consumer first"
                )
            else:
                self._alone = place("", self.table_name, self.settings)
        return [self._alone]

    def _find(self, message_id: str) -> tuple[Place, Record | None]:
        """The record of a job, and where it is; no record where no queue has such a job."""
        places = self._places
        for where in places:
            try:
                if where.table is not None:
                    return where, where.table.get(message_id).wait()[0]
                return where, where.client.record(message_id)
            except NotFoundError:
                continue
            except ExpiredError as error:
                raise ExpiredItemError(str(error)) from error
        return places[0], None

    def item_get(self, message_id: str) -> dict[str, Any]:
        """All that is known: ``message_id``, ``status``, ``result`` or ``error`` where there is
        one, ``request_id``, ``updated_at`` (ISO 8601) and ``expiration`` (Unix seconds, or ``None``)."""
        where, record = self._find(message_id)
        if record is None:
            if where.table is None:
                return Items.at(where.url).get(message_id)
            raise KeyNotFoundError(f"there is no record {message_id} in table {self.table_name}")
        updated = record.finished_at or record.started_at or record.submitted_at
        item: dict[str, Any] = {
            "message_id": record.id,
            "status": result_status(record.status).value,
            "request_id": record.request_id,
            "updated_at": updated.isoformat(),
            "expiration": None if record.expires_at is None else int(record.expires_at.timestamp()),
        }
        if record.status is Status.SUCCESS:
            try:
                item["result"] = record.result
            except (HaulageError, ValueError) as error:
                raise UnparseableItemError(f"the result of {message_id}: {error}") from error
        elif record.status.is_terminal:
            item["error"] = record.error or "cancelled"
        return item

    def item_exists(self, message_id: str) -> bool:
        """Whether there is a record whose time is not over."""
        try:
            self.item_get(message_id)
        except (KeyNotFoundError, ExpiredItemError):
            return False
        return True

    def status_get(self, message_id: str) -> ResultStatus:
        """Where the job is."""
        return ResultStatus(self.item_get(message_id)["status"])

    def result_exists(self, message_id: str) -> bool:
        """Whether there is a result; ``False`` also for an unknown id."""
        try:
            return "result" in self.item_get(message_id)
        except (KeyNotFoundError, ExpiredItemError):
            return False

    def result_get(self, message_id: str) -> Any:
        """The result.

        Raises ``ResultErrorStatusError`` with the job's error, ``ResultInProgressStatusError``
        while it runs, ``ResultMissingError`` while it waits.
        """
        item = self.item_get(message_id)
        if "result" in item:
            return item["result"]
        status = item["status"]
        if status == ResultStatus.ERROR:
            raise ResultErrorStatusError(str(item["error"]))
        if status == ResultStatus.IN_PROGRESS:
            raise ResultInProgressStatusError(f"job {message_id} is running")
        raise ResultMissingError(f"job {message_id} has no result yet: it is {status}")

    def result_poll(self, message_id: str, timeout_seconds: float = 5, poll_time_seconds: float = 0.1) -> Any:
        """Waits for the result; ``AwaitingResultTimeoutError`` after ``timeout_seconds``.

        ``poll_time_seconds`` is kept for old callers: a wait is told of the end, and shares its
        polls with all others.
        """
        if poll_time_seconds < 0:
            raise ValueError("poll_time_seconds must not be negative")
        until = time.monotonic() + timeout_seconds
        where, record = self._find(message_id)
        try:
            if record is not None and where.url:
                with compat_errors():
                    where.client.wait([message_id], timeout_seconds)
            # Nobody tells of the end of other records.
            while self.status_get(message_id) not in (ResultStatus.SUCCESS, ResultStatus.ERROR):
                left = until - time.monotonic()
                if left <= 0:
                    raise WaitTimeoutError
                time.sleep(min(max(poll_time_seconds, 0.01), left))
        except WaitTimeoutError as error:
            raise AwaitingResultTimeoutError(
                f"job {message_id} has no result after {timeout_seconds} s; it goes on"
            ) from error
        return self.result_get(message_id)

    def _put(
        self, message_id: str, status: ResultStatus, value: Any, request_id: str | None, ttl: float | None
    ) -> None:
        ttl = DEFAULT_TTL_SECONDS if ttl is None else ttl
        table = self._places[0].table
        if table is not None:
            refused = table.put(message_id, status.value, value, request_id, ttl).wait()
        else:
            where, record = self._find(message_id)
            if record is not None:
                refused = "job"
            else:
                refused = Items.at(where.url).put(message_id, status.value, value, request_id, ttl)
        if refused == "job":
            raise DDBError(f"{message_id} is a job of the queue; its record is written by its consumer alone")
        if refused is not None:
            raise KeyAlreadyExistsError(f"there is a record {message_id} already: it is {refused}")

    def submitted_put(self, message_id: str, ttl_seconds: float, request_id: str | None = None) -> None:
        """Makes a record of your own, ``SUBMITTED``, kept for ``ttl_seconds``.

        Like the other ``…_put``, for ids that are not of the queue's jobs: such a job is a
        ``DDBError``. ``KeyAlreadyExistsError`` where there is a record already.

        On AWS, an id is a job's from when on a consumer has a message with it: the consumer runs
        the job, and goes on with this record. Where the record is over, it deletes the message.
        """
        self._put(message_id, ResultStatus.SUBMITTED, None, request_id, ttl_seconds)

    def in_progress_put(self, message_id: str, ttl_seconds: float, request_id: str | None = None) -> None:
        """Sets a record of your own to ``IN_PROGRESS``; ``KeyAlreadyExistsError`` where it is over."""
        self._put(message_id, ResultStatus.IN_PROGRESS, None, request_id, ttl_seconds)

    def result_put(
        self, message_id: str, result: Any, request_id: str | None = None, ttl_seconds: float | None = None
    ) -> None:
        """Sets a record of your own to ``SUCCESS``, with its result; it is kept for 7 days by default."""
        self._put(message_id, ResultStatus.SUCCESS, result, request_id, ttl_seconds)

    def error_put(
        self, message_id: str, error: object, request_id: str | None = None, ttl_seconds: float | None = None
    ) -> None:
        """Sets a record of your own to ``ERROR``, with its error; it is kept for 7 days by default.

        Of an error over 64 KiB, the record on AWS has the end, as that of a job.
        """
        self._put(message_id, ResultStatus.ERROR, str(error), request_id, ttl_seconds)

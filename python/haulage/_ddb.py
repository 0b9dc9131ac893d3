"""``DynamoDBClient``: the records, by the names of the established interface."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from ._items import Items
from ._place import ClientSettings, Place, check_settings, elsewhere, place
from ._status import Status
from .errors import (
    AwaitingResultTimeoutError,
    ConfigError,
    DDBError,
    ExpiredError,
    ExpiredItemError,
    KeyNotFoundError,
    NotFoundError,
    ResultErrorStatusError,
    ResultInProgressStatusError,
    ResultMissingError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._haulage import Record


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
    """A status by the established names."""
    return ResultStatus.ERROR if status is Status.CANCELLED else ResultStatus(status.value)


class DynamoDBClient:
    """The records of jobs, in the table ``table_name``.

    ``table`` is another name of the argument. Where ``HAULAGE_URL`` names a place of this
    machine, the records are there. Each method raises ``KeyNotFoundError`` for an unknown id
    and ``ExpiredItemError`` for a record whose time is over, unless it says otherwise.
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
        self._place: Place | None = None

    def bind(self, where: Place) -> None:
        """Tells where the queue is that the records belong to. ``Producer`` and ``Consumer`` do."""
        if self._place is None:
            self._place = where

    @property
    def _bound(self) -> Place:
        if self._place is None:
            url = elsewhere()
            if url is None or "{queue}" in url:
                raise ConfigError(
                    f"the records of table {self.table_name} belong to a queue, which is not known yet; "
                    "give this client to a Producer or a Consumer first"
                )
            self._place = place("", self.table_name, self.settings)
        return self._place

    def _items(self) -> Items:
        return Items.at(self._bound.url)

    def _record(self, message_id: str) -> Record | None:
        """The record of a job of the queue; ``None`` where it has no such job."""
        try:
            return self._bound.client.record(message_id)
        except NotFoundError:
            return None
        except ExpiredError as error:
            raise ExpiredItemError(str(error)) from error

    def item_get(self, message_id: str) -> dict[str, Any]:
        """All that is known: ``message_id``, ``status``, ``result`` or ``error`` where there is
        one, ``request_id``, ``updated_at`` (ISO 8601) and ``expiration`` (Unix seconds, or ``None``)."""
        record = self._record(message_id)
        if record is None:
            return self._items().get(message_id)
        updated = record.finished_at or record.started_at or record.submitted_at
        item: dict[str, Any] = {
            "message_id": record.id,
            "status": result_status(record.status).value,
            "request_id": record.request_id,
            "updated_at": updated.isoformat(),
            "expiration": None if record.expires_at is None else int(record.expires_at.timestamp()),
        }
        if record.status is Status.SUCCESS:
            item["result"] = record.result
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
        if poll_time_seconds <= 0:
            raise ValueError("poll_time_seconds must be positive")
        if self._record(message_id) is not None:
            try:
                self._bound.client.wait([message_id], timeout_seconds)
            except WaitTimeoutError as error:
                raise AwaitingResultTimeoutError(
                    f"job {message_id} has no result after {timeout_seconds} s; it goes on"
                ) from error
        return self.result_get(message_id)

    def _own_items(self, message_id: str) -> Items:
        if self._record(message_id) is not None:
            raise DDBError(f"{message_id} is a job of the queue; its record is written by its consumer alone")
        return self._items()

    def submitted_put(self, message_id: str, ttl_seconds: float, request_id: str | None = None) -> None:
        """Makes a record of your own, ``SUBMITTED``; ``KeyAlreadyExistsError`` where there is one.

        Like the other ``…_put``, for ids that are not of the queue's jobs, and on the embedded
        and memory backends only: elsewhere ``ConfigError``. A job of the queue is a ``DDBError``.
        """
        self._own_items(message_id).create(message_id, request_id, ttl_seconds)

    def in_progress_put(self, message_id: str, ttl_seconds: float, request_id: str | None = None) -> None:
        """Sets a record of your own to ``IN_PROGRESS``, unless it is over."""
        self._own_items(message_id).update(message_id, "IN_PROGRESS", None, request_id, ttl_seconds)

    def result_put(
        self, message_id: str, result: Any, request_id: str | None = None, ttl_seconds: float | None = None
    ) -> None:
        """Sets a record of your own to ``SUCCESS``, with its result."""
        self._own_items(message_id).update(message_id, "SUCCESS", result, request_id, ttl_seconds)

    def error_put(
        self, message_id: str, error: object, request_id: str | None = None, ttl_seconds: float | None = None
    ) -> None:
        """Sets a record of your own to ``ERROR``, with its error."""
        self._own_items(message_id).update(message_id, "ERROR", str(error), request_id, ttl_seconds)

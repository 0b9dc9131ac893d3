"""``DynamoDBClient``: the records, by the names that code from before Haulage uses."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, overload

from .._status import Status
from ..errors import ConfigError, ExpiredError, HaulageError, NotFoundError, WaitTimeoutError
from .errors import (
    AwaitingResultTimeoutError,
    DDBError,
    ExpiredItemError,
    KeyAlreadyExistsError,
    KeyNotFoundError,
    ResultErrorStatusError,
    ResultInProgressStatusError,
    UnparseableItemError,
)
from .item import DynamoDBItem, ResultStatus, now, result_status
from .items import DEFAULT_TTL_SECONDS, Items
from .location import ClientSettings, Place, check_settings, elsewhere, place, table_place
from .values import as_json

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack

    from .._haulage import Record


class _Put(TypedDict):
    message_id: str


class PutOptions(_Put, total=False):
    """What a record of one's own is told besides its status."""

    request_id: str | None
    serialised_message: Any


class DynamoDBClient:
    """The records of jobs, in the table ``table_name``.

    ``table`` is another name of the argument. Where ``HAULAGE_URL`` names a place of this
    machine, the records are there. Each method raises ``KeyNotFoundError`` for an unknown id,
    ``ExpiredItemError`` for a record whose time is over, and ``UnparseableItemError`` for one
    that is not as it should be, unless it says otherwise.

    The ``…_put`` make records of your own, for ids that are not of the queue's jobs: such a job
    is a ``DDBError``. A record that is over stays as it is: ``KeyAlreadyExistsError``.
    ``serialised_message`` is kept for old callers, and not stored. On AWS, an id is a job's from
    when on a consumer has a message with it: the consumer runs the job, and goes on with this
    record. Where the record is over, it deletes the message.
    """

    def __init__(
        self,
        table_name: str | None = None,
        *,
        table: str | None = None,
        **client_settings: Unpack[ClientSettings],
    ) -> None:
        check_settings(client_settings, "2012-08-10")
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

    def item_get(self, message_id: str, raise_for_expiry: bool = True) -> DynamoDBItem:
        """All that is known of a job.

        A record that has expired is gone; with ``raise_for_expiry=False``, one whose status and
        time are still known comes as an ``ERROR``.
        """
        try:
            where, record = self._find(message_id)
            if record is None:
                if where.table is None:
                    return Items.at(where.url).get(message_id)
                raise KeyNotFoundError(f"there is no record {message_id} in table {self.table_name}")
        except ExpiredItemError as error:
            if raise_for_expiry:
                raise
            return DynamoDBItem(message_id, status=ResultStatus.ERROR, error=str(error), expiration=now())
        item = DynamoDBItem(
            record.id,
            record.request_id,
            result_status(record.status),
            updated_at=record.finished_at or record.started_at or record.submitted_at,
            expiration=record.expires_at,
        )
        if record.status is Status.SUCCESS:
            try:
                item.result = record.result
            except (HaulageError, ValueError) as error:
                raise UnparseableItemError(f"the result of {message_id}: {error}") from error
        elif record.status.is_terminal:
            item.error = record.error or "the job was cancelled"
        return item

    def item_exists(self, message_id: str) -> bool:
        """Whether there is a record whose time is not over."""
        try:
            self.item_get(message_id)
        except (KeyNotFoundError, ExpiredItemError):
            return False
        return True

    def status_get(self, message_id: str) -> ResultStatus:
        """Where the job is; ``ERROR`` where its record has expired, or cannot be read."""
        try:
            return self.item_get(message_id).status
        except (ExpiredItemError, UnparseableItemError):
            return ResultStatus.ERROR

    def result_exists(self, message_id: str) -> bool:
        """Whether there is a result; ``False`` also for an unknown id."""
        try:
            self.result_get(message_id)
        except DDBError:
            return False
        return True

    @overload
    def result_get(self, message_id: str, return_request_id: Literal[False] = False) -> Any: ...
    @overload
    def result_get(self, message_id: str, return_request_id: Literal[True]) -> tuple[Any, str | None]: ...
    def result_get(self, message_id: str, return_request_id: bool = False) -> Any:
        """The result; with ``return_request_id``, the result and the request id.

        Raises ``ResultErrorStatusError`` with the job's error, and ``ResultInProgressStatusError``
        while it waits or runs.
        """
        item = self.item_get(message_id)
        if item.status is ResultStatus.SUCCESS:
            return (item.result, item.request_id) if return_request_id else item.result
        if item.status is ResultStatus.ERROR:
            raise ResultErrorStatusError(item.error or "")
        raise ResultInProgressStatusError(f"{message_id} has no result yet: it is {item.status}")

    @overload
    def result_poll(
        self,
        message_id: str,
        timeout_seconds: float = 5,
        poll_time_seconds: float = 0.1,
        return_request_id: Literal[False] = False,
    ) -> Any: ...
    @overload
    def result_poll(
        self,
        message_id: str,
        timeout_seconds: float = 5,
        poll_time_seconds: float = 0.1,
        *,
        return_request_id: Literal[True],
    ) -> tuple[Any, str | None]: ...
    def result_poll(
        self,
        message_id: str,
        timeout_seconds: float = 5,
        poll_time_seconds: float = 0.1,
        return_request_id: bool = False,
    ) -> Any:
        """Waits for the result, also of an id that is not known yet.

        Raises ``AwaitingResultTimeoutError`` after ``timeout_seconds``, and otherwise what
        ``result_get`` does. All waits for jobs share their looks; ``poll_time_seconds`` is the
        pause between two looks for an unknown id, or for a record of your own.
        """
        if poll_time_seconds < 0:
            raise ValueError("poll_time_seconds must not be negative")
        until = time.monotonic() + timeout_seconds
        while True:
            left = until - time.monotonic()
            try:
                where, record = self._find(message_id)
                if record is not None and where.url and left > 0:
                    where.client.wait([message_id], left)
                result, request_id = self.result_get(message_id, return_request_id=True)
                return (result, request_id) if return_request_id else result
            except (KeyNotFoundError, NotFoundError, ResultInProgressStatusError, WaitTimeoutError) as error:
                if until <= time.monotonic():
                    # Of a job that is known, the error says what is said here already.
                    unknown = isinstance(error, (KeyNotFoundError, NotFoundError))
                    more = f": {error}" if unknown else "; it goes on, and can be waited for again"
                    raise AwaitingResultTimeoutError(
                        f"{message_id} has no result after {timeout_seconds:g} s{more}"
                    ) from error
            time.sleep(min(max(poll_time_seconds, 0.01), max(until - time.monotonic(), 0)))

    def item_put(
        self, item: DynamoDBItem | None = None, allow_overwrite: bool = True, **ddb_item_kwargs: Any
    ) -> None:
        """Writes a record of your own, given whole or by the fields of a ``DynamoDBItem``.

        ``KeyAlreadyExistsError`` where there is one, and ``allow_overwrite`` is false.
        """
        item = item or DynamoDBItem(**ddb_item_kwargs)
        if not allow_overwrite and self.item_exists(item.message_id):
            raise KeyAlreadyExistsError(f"there is a record {item.message_id} already")
        kept = DEFAULT_TTL_SECONDS if item.expiration is None else (item.expiration - now()).total_seconds()
        value = item.error if item.status is ResultStatus.ERROR else as_json(item.result)
        table = self._places[0].table
        if table is not None:
            put = table.put(item.message_id, item.status.name, value, item.request_id, kept)
            refused = put.wait()
        else:
            where, record = self._find(item.message_id)
            refused = "job" if record is not None else Items.at(where.url).put(item, value, kept)
        if refused == "job":
            raise DDBError(
                f"{item.message_id} is a job of the queue; its record is written by its consumer alone"
            )
        if refused is not None:
            raise KeyAlreadyExistsError(
                f"there is a record {item.message_id} already: it is {refused.lower()}"
            )

    def status_put(
        self,
        *,
        status: ResultStatus,
        message_id: str,
        request_id: str | None = None,
        ttl_seconds: float | None = None,
        error: str | None = None,
        serialised_message: Any = None,
    ) -> None:
        """Sets the status of a record of your own.

        It is kept for ``ttl_seconds``; default: 7 days. A success is set by ``result_put``, with
        its result: ``ValueError`` here, and for an ``error`` with another status than ``ERROR``.
        """
        if status == ResultStatus.SUCCESS:
            raise ValueError("status_put cannot set a success; use result_put")
        if error and status != ResultStatus.ERROR:
            raise ValueError(f"an error goes with the status ERROR, not with {ResultStatus(status).name}")
        expiration = None if ttl_seconds is None else now() + timedelta(seconds=ttl_seconds)
        self.item_put(
            DynamoDBItem(message_id, request_id, status, error=error or None, expiration=expiration)
        )

    def submitted_put(self, ttl_seconds: float | None, **options: Unpack[PutOptions]) -> None:
        """Makes a record of your own, ``SUBMITTED``; ``KeyAlreadyExistsError`` where there is one already."""
        self.status_put(status=ResultStatus.SUBMITTED, ttl_seconds=ttl_seconds, **options)

    def in_progress_put(self, ttl_seconds: float | None, **options: Unpack[PutOptions]) -> None:
        """Sets a record of your own to ``IN_PROGRESS``."""
        self.status_put(status=ResultStatus.IN_PROGRESS, ttl_seconds=ttl_seconds, **options)

    def error_put(
        self,
        exp: Exception | str | None = None,
        *,
        ttl_seconds: float | None = None,
        **options: Unpack[PutOptions],
    ) -> None:
        """Sets a record of your own to ``ERROR``, with its error.

        Of an error over 64 KiB, the record on AWS has the end, as that of a job.
        """
        error = f"{type(exp).__name__}: {exp}" if isinstance(exp, Exception) else exp or "Unknown error"
        self.status_put(status=ResultStatus.ERROR, ttl_seconds=ttl_seconds, error=error, **options)

    def result_put(
        self,
        *,
        message_id: str,
        result: Any,
        serialised_message: Any = None,
        request_id: str | None = None,
    ) -> None:
        """Sets a record of your own to ``SUCCESS``, with its result."""
        self.item_put(DynamoDBItem(message_id, request_id, ResultStatus.SUCCESS, result))

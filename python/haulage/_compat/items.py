"""Records that users of ``DynamoDBClient`` write by hand on one machine, for ids that are no jobs.

They are in a file beside the database, ``….db-items``; those of ``memory://`` in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .. import _haulage
from .errors import DDBError, ExpiredItemError, KeyNotFoundError
from .item import DynamoDBItem, ResultStatus

if TYPE_CHECKING:
    from collections.abc import Generator

# As long as the record of a job is kept: 7 days.
DEFAULT_TTL_SECONDS = 7 * 24 * 3600

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    message_id TEXT PRIMARY KEY, status TEXT NOT NULL, value TEXT, request_id TEXT,
    updated_at REAL NOT NULL, expiration REAL NOT NULL
) WITHOUT ROWID
"""


class Items:
    """The records at one place."""

    _known: dict[str, Items] = {}  # noqa: RUF012
    _lock = threading.Lock()

    def __init__(self, path: str) -> None:
        self._path = path
        self._shared = sqlite3.connect(":memory:", check_same_thread=False) if path == "" else None

    @classmethod
    def at(cls, url: str) -> Items:
        """Those beside the queue at this URL."""
        rest = url.partition("://")[2]
        with cls._lock:
            if url not in cls._known:
                path = unquote(rest.partition("?")[0])
                cls._known[url] = cls(path and f"{path}-items")
            return cls._known[url]

    @contextlib.contextmanager
    def _open(self) -> Generator[sqlite3.Connection, None, None]:
        with self._lock:
            try:
                connection = self._shared or sqlite3.connect(self._path, timeout=30)
                try:
                    with connection:
                        connection.execute(_SCHEMA)
                        connection.execute("BEGIN IMMEDIATE")
                        yield connection
                finally:
                    if connection is not self._shared:
                        connection.close()
            except sqlite3.Error as error:
                raise DDBError(f"the records in {self._path or 'memory'} cannot be had: {error}") from error

    def get(self, message_id: str) -> DynamoDBItem:
        """One record."""
        row = None
        # To look makes no file.
        if self._shared is not None or os.path.exists(self._path):
            with self._open() as db:
                row = _row(db, message_id)
        if row is None:
            raise KeyNotFoundError(f"there is no record {message_id}")
        status, value, request_id, updated_at, expiration = row
        if expiration <= _now():
            raise ExpiredItemError(f"the record of {message_id} has expired")
        item = DynamoDBItem(
            message_id,
            request_id,
            ResultStatus(status),
            updated_at=datetime.fromtimestamp(updated_at, timezone.utc),
            expiration=datetime.fromtimestamp(expiration, timezone.utc),
        )
        if item.status is ResultStatus.SUCCESS:
            item.result = json.loads(value)
        elif item.status is ResultStatus.ERROR:
            item.error = json.loads(value)
        return item

    def put(self, item: DynamoDBItem, value: Any, ttl_seconds: float) -> str | None:
        """Writes a record; the status that it has where that stays: a record that is over, or any
        where a new one is ``SUBMITTED``."""
        text = _haulage.dumps("the result", value)
        with self._open() as db:
            row = _row(db, item.message_id)
            request_id = item.request_id
            if row is not None and row[4] > _now():
                status = ResultStatus(row[0])
                if item.status is ResultStatus.SUBMITTED or status in _OVER:
                    return status
                request_id = request_id or row[2]
            values = (item.message_id, item.status, text, request_id, _now(), _now() + ttl_seconds)
            db.execute("REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?)", values)
        return None


def _after_fork() -> None:
    # The child opens its own, and another thread may have held the lock.
    Items._known, Items._lock = {}, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)

_OVER = (ResultStatus.SUCCESS, ResultStatus.ERROR)


def _now() -> float:
    return datetime.now(timezone.utc).timestamp()


def _row(db: sqlite3.Connection, message_id: str) -> tuple[str, str, str | None, float, float] | None:
    query = "SELECT status, value, request_id, updated_at, expiration FROM items WHERE message_id = ?"
    row: tuple[str, str, str | None, float, float] | None = db.execute(query, (message_id,)).fetchone()
    return row

"""Records that users of ``DynamoDBClient`` write by hand, for ids that are no jobs.

They are in a file beside the database, ``….db-items``; those of ``memory://`` in memory.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from . import _haulage
from .errors import ConfigError, ExpiredItemError, KeyAlreadyExistsError, KeyNotFoundError

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
        scheme, _, rest = url.partition("://")
        if scheme not in ("sqlite", "memory"):
            raise ConfigError("records are written by hand on sqlite:// and memory:// only")
        with cls._lock:
            if url not in cls._known:
                path = unquote(rest.partition("?")[0])
                cls._known[url] = cls(path and f"{path}-items")
            return cls._known[url]

    @contextlib.contextmanager
    def _open(self) -> Generator[sqlite3.Connection, None, None]:
        with self._lock:
            connection = self._shared or sqlite3.connect(self._path, timeout=30)
            try:
                with connection:
                    connection.execute(_SCHEMA)
                    connection.execute("BEGIN IMMEDIATE")
                    yield connection
            finally:
                if connection is not self._shared:
                    connection.close()

    def get(self, message_id: str) -> dict[str, Any]:
        """One record."""
        with self._open() as db:
            row = _row(db, message_id)
        if row is None:
            raise KeyNotFoundError(f"there is no record {message_id}")
        status, value, request_id, updated_at, expiration = row
        if expiration <= _now():
            raise ExpiredItemError(f"the record of {message_id} has expired")
        item: dict[str, Any] = {
            "message_id": message_id,
            "status": status,
            "request_id": request_id,
            "updated_at": datetime.fromtimestamp(updated_at, timezone.utc).isoformat(),
            "expiration": int(expiration),
        }
        if status == "SUCCESS":
            item["result"] = json.loads(value)
        elif status == "ERROR":
            item["error"] = json.loads(value)
        return item

    def create(self, message_id: str, request_id: str | None, ttl_seconds: float) -> None:
        """A record that was not there."""
        with self._open() as db:
            row = _row(db, message_id)
            if row is not None and row[4] > _now():
                raise KeyAlreadyExistsError(f"there is a record {message_id} already")
            _write(db, message_id, "SUBMITTED", None, request_id, ttl_seconds)

    def update(
        self, message_id: str, status: str, value: Any, request_id: str | None, ttl_seconds: float | None
    ) -> None:
        """Moves a record on; one that is over stays as it is."""
        text = _haulage.dumps("the result", value)
        with self._open() as db:
            row = _row(db, message_id)
            if row is not None and row[4] > _now():
                if row[0] in ("SUCCESS", "ERROR"):
                    raise KeyAlreadyExistsError(f"the record {message_id} is over: it is {row[0]}")
                request_id = request_id or row[2]
            _write(db, message_id, status, text, request_id, ttl_seconds)


def _now() -> float:
    return datetime.now(timezone.utc).timestamp()


def _row(db: sqlite3.Connection, message_id: str) -> tuple[str, str, str | None, float, float] | None:
    query = "SELECT status, value, request_id, updated_at, expiration FROM items WHERE message_id = ?"
    row: tuple[str, str, str | None, float, float] | None = db.execute(query, (message_id,)).fetchone()
    return row


def _write(
    db: sqlite3.Connection,
    message_id: str,
    status: str,
    value: str | None,
    request_id: str | None,
    ttl_seconds: float | None,
) -> None:
    ttl = DEFAULT_TTL_SECONDS if ttl_seconds is None else ttl_seconds
    values = (message_id, status, value, request_id or message_id, _now(), _now() + ttl)
    db.execute("REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?)", values)

"""How much a job may print and log.

A job that prints without end would drown what the others have to say. Beyond its allowance,
what it prints is counted, and the log tells how much there was.
"""

from __future__ import annotations

import contextlib
import io
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_log = logging.getLogger("haulage.program")

# What a line counts for at least, in characters: a log keeps more of it than its text.
_LEAST = 100

# How much is logged for one job, in characters; `None` where nothing that is printed is logged.
_limit: int | None = None

# Of the call that runs here, in its thread or task.
_current: ContextVar[_Allowance | None] = ContextVar("allowance", default=None)


class _Allowance:
    def __init__(self, left: int) -> None:
        self.left = left
        self.lines = 0
        self.size = 0

    def takes(self, text: str, lines: int) -> bool:
        """Whether this is still within it."""
        cost = max(len(text), _LEAST * lines)
        # The first that is too much is the end of it.
        if self.size == 0 and cost <= self.left:
            self.left -= cost
            return True
        self.lines += lines
        self.size += len(text)
        return False


class Printed(io.TextIOWrapper):
    """A stream for what is printed, within the allowance of whoever prints."""

    _in_line = False

    def write(self, text: str, /) -> int:
        """Writes it, or counts it."""
        allowance = _current.get()
        if allowance is None or allowance.takes(text, text.count("\n")):
            if text:
                self._in_line = not text.endswith("\n")
            return super().write(text)
        if self._in_line:
            # What comes next is another's.
            self._in_line = False
            super().write("\n")
        return len(text)


def limit(size: int) -> None:
    """From now on, so much is logged for each job."""
    global _limit
    _limit = size


def takes(record: logging.LogRecord) -> bool:
    """Whether this is logged: what is not of a job is, and what tells of one."""
    allowance = _current.get()
    return allowance is None or record.name == _log.name or allowance.takes(record.getMessage(), 1)


@contextlib.contextmanager
def of_jobs(ids: list[str]) -> Generator[None]:
    """What is printed and logged within is of these jobs."""
    if _limit is None:
        yield
        return
    allowance = _Allowance(_limit * len(ids))
    token = _current.set(allowance)
    try:
        yield
    finally:
        _current.reset(token)
        if allowance.size:
            _log.warning(
                "%s: %d lines of %d characters more were not logged, by --log-limit",
                ", ".join(ids),
                allowance.lines,
                allowance.size,
            )

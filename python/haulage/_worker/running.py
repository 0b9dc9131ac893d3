"""The jobs of the call that runs here, in its thread or task: whose log lines and prints are whose.

A job that prints without end would drown what the others have to say. Beyond its allowance,
what it prints is counted, and the log tells how much there was.
"""

from __future__ import annotations

import io
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .._status import Status
from ..errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Token

    from .._client import Client
    from .._haulage import Context, Record

_log = logging.getLogger("haulage.program")

# What a line counts for at least, in characters: a log keeps more of it than its text.
_LEAST = 100

# How much is logged for one job, in characters; `None` where nothing that is printed is logged.
_limit: int | None = None

# The slot of this process, where it has a GPU of its own.
_slot = ""

_current: ContextVar[Running | None] = ContextVar("haulage_running", default=None)


class Place:
    """Where the jobs of a worker are."""

    __slots__ = ("_core", "_url", "is_alone")

    def __init__(self, url: str, slots: int, core: object = None) -> None:
        self._url = url
        self._core = core
        self.is_alone = slots == 1
        """Whether the worker runs nothing else beside a job."""

    def is_that_of(self, client: Client) -> bool:
        """Whether a client's jobs are there, too."""
        # Each queue in memory is one of its own.
        return client._core is self._core or (client.url == self._url and client.backend != "memory")


class Running:
    """What is printed and logged within is of these jobs, of a worker of this place."""

    __slots__ = ("_token", "jobs", "left", "lines", "place", "size")

    _token: Token[Running | None]

    def __init__(self, jobs: Sequence[Context], place: Place | None = None) -> None:
        self.jobs = jobs
        self.place = place
        # How much they may log yet, and what was too much.
        self.left = None if _limit is None else _limit * len(jobs)
        self.lines = 0
        self.size = 0

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        if self.size:
            _log.warning(
                "%s: %d lines of %d characters more were not logged, by --log-limit",
                ", ".join(job.job_id for job in self.jobs),
                self.lines,
                self.size,
            )

    def takes(self, text: str, lines: int) -> bool:
        """Whether this is still within the allowance."""
        if self.left is None:
            return True
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
        running = _current.get()
        if running is None or running.takes(text, text.count("\n")):
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


def in_slot(name: str) -> None:
    """What jobs log from now on names this slot."""
    global _slot
    _slot = name


def takes(record: logging.LogRecord) -> bool:
    """Whether this is logged: what is not of a job is, and what tells of one."""
    running = _current.get()
    return running is None or record.name == _log.name or running.takes(record.getMessage(), 1)


def never_end(client: Client, ids: Sequence[str]) -> bool:
    """Whether waits for jobs of a client may never end, as the job that waits is in their way; if so,
    their records are for ``refuse_endless``.

    Raises ``InvalidArgumentError`` where a job waits for itself.
    """
    running = _current.get()
    if running is None or running.place is None or not running.place.is_that_of(client):
        return False
    for job in running.jobs:
        if job.job_id in ids:
            raise InvalidArgumentError(f"job {job.job_id} waits for itself, and would for ever")
    return running.place.is_alone or any(job.group is not None for job in running.jobs)


def refuse_endless(records: Sequence[Record | None]) -> None:
    """Raises ``InvalidArgumentError`` where one of them cannot begin before the job that runs here ends."""
    running = _current.get()
    if running is None or running.place is None:
        return
    queues = {job.queue for job in running.jobs}
    groups = {(job.queue, job.group) for job in running.jobs if job.group is not None}
    for record in records:
        if record is None or record.status is not Status.SUBMITTED:
            continue
        if (record.queue, record.group) in groups:
            raise InvalidArgumentError(
                f"job {record.id} is in the same group as the job that waits for it, {record.group}, and "
                "cannot begin before that one ends: the wait would never end. Submit it to no group, or "
                "to another"
            )
        if running.place.is_alone and record.queue in queues:
            raise InvalidArgumentError(
                f"job {record.id} waits in the queue {record.queue} for this worker, whose only slot is "
                "taken by the job that waits for it: it would wait for ever. Give the worker more "
                "concurrency, submit to another queue, or give a timeout where another worker serves this one"
            )


def current_job() -> Context | None:
    """The context of the job that runs here; ``None`` outside of a handler, and in that of a batch.

    In a thread that the handler has started, it is ``None``, too, unless that runs by
    ``contextvars.copy_context().run``.
    """
    running = _current.get()
    return running.jobs[0] if running is not None and len(running.jobs) == 1 else None


class JobFilter(logging.Filter):
    """Gives each log record ``job_id``, ``request_id``, ``attempt`` and ``slot`` of the job that logs.

    For ``handler.addFilter(haulage.JobFilter())``, with a format such as ``%(job_id)s``. Where no
    job runs, they are ``""``, ``""``, 0 and ``""``; in the handler of a batch, ids are joined by commas.
    The slot is such as ``slot 3, GPU 1`` with ``gpus``, and ``""`` without.
    What the worker itself tells of a job has them as well. It lets every record through.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Sets the four, where the record has not got them already."""
        if not hasattr(record, "job_id"):
            running = _current.get()
            jobs = () if running is None else running.jobs
            record.job_id = ",".join(job.job_id for job in jobs)
            record.request_id = ",".join(job.request_id for job in jobs)
            record.attempt = jobs[0].attempt if len(jobs) == 1 else 0
            record.slot = _slot if jobs else ""
        return True

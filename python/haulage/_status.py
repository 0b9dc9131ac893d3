"""Where a job is in its life."""

from __future__ import annotations

from enum import Enum


class Status(str, Enum):
    """``SUBMITTED`` → ``IN_PROGRESS`` → ``SUCCESS`` | ``ERROR`` | ``CANCELLED``.

    A retry goes back to ``SUBMITTED``; the last three are terminal. A member is
    also its name, a ``str``.
    """

    SUBMITTED = "SUBMITTED"
    """Accepted, and waiting for a worker: for the first time, or again."""
    IN_PROGRESS = "IN_PROGRESS"
    """Held by a worker."""
    SUCCESS = "SUCCESS"
    """Done; the result is there."""
    ERROR = "ERROR"
    """Failed for good; the error is there."""
    CANCELLED = "CANCELLED"
    """Cancelled before it was done."""

    def __str__(self) -> str:
        return self.value

    @property
    def is_terminal(self) -> bool:
        """Whether the job is over."""
        return self in (Status.SUCCESS, Status.ERROR, Status.CANCELLED)


class Cancellation(str, Enum):
    """The answer to a cancel."""

    DONE = "done"
    """The job was waiting, and is cancelled now."""
    REQUESTED = "requested"
    """The job is running; its worker has been asked, and it may still succeed."""
    TOO_LATE = "too_late"
    """The job was over already."""

    def __str__(self) -> str:
        return self.value

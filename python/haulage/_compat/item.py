"""A record, by the names that code from before Haulage uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from .._status import Status


class ResultStatus(str, Enum):
    """Where a job is: ``SUBMITTED`` → ``IN_PROGRESS`` → ``SUCCESS`` or ``ERROR``.

    A member is also its name in small letters, a ``str``. A job that was cancelled is in
    ``ERROR`` here.
    """

    SUBMITTED = "submitted"
    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    ERROR = "error"

    def __str__(self) -> str:
        return self.value


def result_status(status: Status) -> ResultStatus:
    """A status by the names of the compatible interface."""
    return ResultStatus.ERROR if status is Status.CANCELLED else ResultStatus[status.name]


def now() -> datetime:
    """This moment, to the second, as records have it."""
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass
class DynamoDBItem:
    """A record. ``ValueError`` where it is both a success and an error."""

    message_id: str
    """The job's id."""
    request_id: str | None = None
    """The caller's correlation id."""
    status: ResultStatus = ResultStatus.SUCCESS
    """Where the job is."""
    result: Any = None
    """The result of a job in ``SUCCESS``, which may be ``None``."""
    updated_at: datetime = field(default_factory=now)
    """When the job ended, or where it has not, began or was submitted."""
    serialised_message: Any = None
    """Kept for old callers: it is not stored. The body of a job is in its own record."""
    error: str | None = None
    """The error of a job in ``ERROR``."""
    expiration: datetime | None = None
    """Until when the record is kept; ``None`` as long as the job is not over."""

    def __post_init__(self) -> None:
        self.status = ResultStatus(self.status)
        if self.status is ResultStatus.SUCCESS and self.error:
            raise ValueError(f"the item of {self.message_id} is a success, and has an error: {self.error}")

    def is_expired(self) -> bool:
        """Whether the time for which the record is kept is over."""
        return self.expiration is not None and self.expiration <= datetime.now(timezone.utc)

"""What can go wrong, by what a caller can do about it.

============================  ====================  =================================================
exception                     is also a             when
============================  ====================  =================================================
``InvalidJSONError``          ``ValueError``        a value has no JSON form; nothing was stored
``InvalidArgumentError``      ``ValueError``        an option is out of its range; nothing was done
``TooLargeError``             ``ValueError``        a body is larger than the backend takes
``IdempotencyConflictError``  ``ValueError``        a job with the same idempotency key has another body
``SubmitManyError``                                 only a part of the jobs was accepted
``NotFoundError``             ``LookupError``       no job has this id
``ExpiredError``              ``LookupError``       the time for which the record is kept is over
``JobFailedError``                                  the job ended in ``ERROR``
``JobCancelledError``                               the job ended in ``CANCELLED``
``NotFinishedError``                                the job has no result yet
``ResultTypeError``           ``TypeError``         a task returned something else than it says
``WaitTimeoutError``          ``TimeoutError``      a wait reached its ``timeout``; the job goes on
``ConfigError``               ``ValueError``        the URL is wrong, or what is at that place
``UnavailableError``          ``ConnectionError``   the backend is out of reach; try again later
``ForkError``                 ``RuntimeError``      used in a forked child of the process
``HandlerLoadError``                                the handler that was named cannot be loaded
``ProcessError``                                    a child process of a worker cannot be started
============================  ====================  =================================================

All are under ``HaulageError``. A handler raises ``Retry``, ``Snooze``, ``NotReady``, ``WorkerBroken``
or ``Fail``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any


class BaseError(Exception):
    """The root of everything that this package raises."""


class HaulageError(BaseError):
    """The root of the errors of the queue."""


class InvalidJSONError(HaulageError, ValueError):
    """A value has no JSON form, or text is not JSON; the message names the place."""


class InvalidArgumentError(HaulageError, ValueError):
    """An option is out of its range; the message names both. Nothing was done."""


class TooLargeError(HaulageError, ValueError):
    """A body is larger than the backend takes. Nothing was stored."""


class SubmitManyError(HaulageError):
    """A submit of several jobs that were not all accepted."""

    def __init__(
        self, message: str, *, index: int, accepted: list[tuple[int, str]], error: Exception
    ) -> None:
        super().__init__(message)
        self.index = index
        """The first job that was not accepted, counted from 0."""
        self.accepted = accepted
        """The jobs that were: each with its place and its id."""
        self.error = error
        """Why it was not."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, an exception is made again of its message alone.
        return _submit_many_error, (*self.args, self.index, self.accepted, self.error)


def _submit_many_error(
    message: str, index: int, accepted: list[tuple[int, str]], error: Exception
) -> SubmitManyError:
    return SubmitManyError(message, index=index, accepted=accepted, error=error)


class _OfJob(HaulageError):
    job_id: str
    """The job."""


class NotFoundError(_OfJob, LookupError):
    """No job has this id, or its record expired long enough ago to be gone."""


class ExpiredError(_OfJob, LookupError):
    """The job is done, and the time for which its record is kept is over."""


class IdempotencyConflictError(_OfJob, ValueError):
    """A job with the same idempotency key has another body; ``job_id`` is that job. Nothing was stored."""


class JobFailedError(_OfJob):
    """The job ended in ``ERROR``. The text is the job's error, with its traceback."""

    kind: str = "handler"
    """``handler``, ``timeout``, ``worker_lost``, ``invalid_body``, ``invalid_result``, ``panic``,
    ``expired`` (the job had not been started within its ``start_within``) or ``message_lost``."""

    type: str | None = None
    """The type of the exception that the handler raised, such as ``ValueError`` or
    ``torch.OutOfMemoryError``, where it is known."""


class JobCancelledError(_OfJob):
    """The job ended in ``CANCELLED``."""


class NotFinishedError(_OfJob):
    """The job has not ended yet, and its result was asked for."""


class ResultTypeError(_OfJob, TypeError):
    """The result of a task is not of the type that its function says it returns.

    The message names the place. The job succeeded: ``JobHandle.record`` has what it returned.
    """


class WaitTimeoutError(HaulageError, TimeoutError):
    """A wait reached its ``timeout``. The job goes on, and can be waited for again."""


class ConfigError(HaulageError, ValueError):
    """The URL is not usable, or what is at that place; a mistake to fix."""


class UnavailableError(HaulageError, ConnectionError):
    """The backend could not be reached, or refused to work. Trying again may help."""


class ForkError(HaulageError, RuntimeError):
    """Something made before a fork was used after it, in the child; or the child cannot open an SQLite
    database, as its parent had one open at the fork."""


class HandlerLoadError(HaulageError):
    """The handler that was named cannot be loaded; the message says why."""


class ProcessError(HaulageError):
    """A child process cannot be started, or died before it had loaded the handler."""


class Retry(Exception):
    """Raised by a handler: this attempt failed; try again, if attempts are left.

    ``after`` is the wait, in seconds or as a ``timedelta``; default: the worker's backoff.
    """

    def __init__(self, message: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(message or "the handler asked for a retry")
        self.after = after


class Snooze(Exception):
    """Raised by a handler: put the job off for ``after``, in seconds or as a ``timedelta``.

    The job may be claimed again after that, by any worker. The attempt does not count, however
    often. It is put off for one second at least.
    """

    def __init__(self, after: float | timedelta, message: str = "") -> None:
        super().__init__(message or "the handler put the job off")
        self.after = after

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.after, *self.args)


class NotReady(Exception):
    """Raised by a handler that has not begun, as what it needs is not there: a server, a device.

    The job is given back at once, and the attempt does not count. The worker claims no more
    until it is ready: it tries one job after a second, then after longer, up to a minute, and
    goes on with the first that does not come back. For what only some jobs need, ``Snooze``.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "what the handler needs is not there")


class WorkerBroken(Exception):
    """Raised by a handler: not the job is at fault but what runs it, such as a GPU that does not work.

    The job goes back to the queue, and the attempt does not count, unless it has broken this worker
    before, or has had ten attempts already. With ``processes`` or ``gpus``, the child process is
    replaced; if the next one breaks as well, the slot takes no more jobs until it works. Else the
    worker ends: ``Worker.run`` raises this exception, and the command line ends with code 75.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "the worker is broken")


class Fail(Exception):
    """Raised by a handler: the job failed, and trying again would not help."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "the handler failed the job")


class Cancelled(Exception):
    """Raised by a handler: it stopped because it was told to; the job ends as ``CANCELLED``."""

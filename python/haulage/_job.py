"""One job, as its producer sees it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, Generic, TypeVar

    from ._client import Client
    from ._haulage import Record
    from ._options import Seconds
    from ._status import Cancellation, Status
    from ._task import Task

    R_co = TypeVar("R_co", covariant=True)
else:
    R_co = None

    class Generic:
        """For type checkers alone: to import ``typing`` takes longer than all of this module."""

        __slots__ = ()

        def __class_getitem__(cls, _: object) -> type:
            return cls


class Progress:
    """How far a running job says it is."""

    __slots__ = ("fraction", "message")

    def __init__(self, fraction: float, message: str | None = None) -> None:
        self.fraction = fraction
        """The part that is done, from 0 to 1."""
        self.message = message
        """What is being done, in the handler's words."""

    def __repr__(self) -> str:
        return f"Progress({self.fraction!r}, {self.message!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Progress):
            return NotImplemented
        return (self.fraction, self.message) == (other.fraction, other.message)

    def __hash__(self) -> int:
        return hash((self.fraction, self.message))


class JobHandle(Generic[R_co]):
    """One job, as its producer sees it: no more than its id and a client.

    ``JobHandle[R]`` is one whose result is an ``R``, as of a task that returns it.

    ``await handle`` is its result, like ``await handle.result_async()``.
    """

    __slots__ = ("_client", "_task", "id", "is_duplicate")

    def __init__(self, client: Client, job_id: str, is_duplicate: bool = False) -> None:
        self._client = client
        # What its result is made by.
        self._task: Task[..., Any] | None = None
        self.id = job_id
        """The job's id, which is all it takes to find it again."""
        self.is_duplicate = is_duplicate
        """Whether the submit found an earlier job with the same idempotency key: this one."""

    @classmethod
    def from_id(cls, job_id: str, client: Client) -> JobHandle[Any]:
        """The handle of a job that was submitted before, here or elsewhere. Asks nobody."""
        return cls(client, job_id)

    def _of(self, task: Task[..., Any]) -> JobHandle[Any]:
        self._task = task
        return self

    def _made(self, result: Any) -> Any:
        return result if self._task is None else self._task._returned(result, self.id)

    def record(self) -> Record:
        """What is known of the job, its result included, its body not."""
        return self._client.record(self.id)

    async def record_async(self) -> Record:
        """Like ``record``, in an event loop."""
        return await self._client.record_async(self.id)

    def status(self) -> Status:
        """Where the job is in its life."""
        return self._client._state(self.id).status

    async def status_async(self) -> Status:
        """Like ``status``, in an event loop."""
        return (await self._client._state_async(self.id)).status

    def progress(self) -> Progress | None:
        """What the handler last said of its progress; ``None`` where it said nothing."""
        return self._client._state(self.id).progress

    async def progress_async(self) -> Progress | None:
        """Like ``progress``, in an event loop."""
        return (await self._client._state_async(self.id)).progress

    def wait(self, timeout: Seconds | None = None) -> Record:
        """Waits until the job is over, in whichever way.

        Raises ``WaitTimeoutError`` when ``timeout`` seconds have passed; default: no limit.
        """
        return self._client.wait([self], timeout)[0]

    async def wait_async(self, timeout: Seconds | None = None) -> Record:
        """Like ``wait``, in an event loop."""
        return (await self._client.wait_async([self], timeout))[0]

    def result(self, timeout: Seconds | None = None) -> R_co:
        """Waits for the result; of a task, it is what the function's annotation says.

        Raises ``JobFailedError`` or ``JobCancelledError`` where there will be none,
        ``ResultTypeError`` where a task has returned something else than it says, and
        ``WaitTimeoutError`` when ``timeout`` seconds have passed (default: no limit).
        """
        result: R_co = self._made(self.wait(timeout).result)
        return result

    async def result_async(self, timeout: Seconds | None = None) -> R_co:
        """Like ``result``, in an event loop."""
        result: R_co = self._made((await self.wait_async(timeout)).result)
        return result

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.result_async().__await__()

    def cancel(self) -> Cancellation:
        """Cancels the job: at once where it waits; where it runs, its worker is asked to stop it."""
        return self._client.cancel(self.id)

    async def cancel_async(self) -> Cancellation:
        """Like ``cancel``, in an event loop."""
        return await self._client.cancel_async(self.id)

    def redrive(self) -> None:
        """Puts the job back to work, with all its attempts, after it failed or was cancelled."""
        self._client.redrive(self.id)

    async def redrive_async(self) -> None:
        """Like ``redrive``, in an event loop."""
        await self._client.redrive_async(self.id)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

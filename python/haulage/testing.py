"""For your own tests: queues in memory, and handlers that run inline."""

from __future__ import annotations

import threading

from . import _haulage
from ._client import Client, JobHandle
from ._handler import Signature
from ._threads import batch, single
from ._worker import unwrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from typing_extensions import Self, Unpack

    from ._haulage import Record
    from ._options import JobOptions, Seconds, WorkerOptions

__all__ = ["InlineClient", "inline", "memory"]


def memory() -> Client:
    """A new, empty queue in this process's memory. Give it to a ``Worker``, too."""
    return Client(_haulage.connect("memory://").wait(), "memory://")


def inline(handler: Callable[..., Any], **options: Unpack[WorkerOptions]) -> InlineClient:
    """A client on which every submit runs the job to its end, in the calling thread.

    Nothing waits: retries and delays pass at once, on a clock of their own. Records, attempts
    and errors are those of the real thing. ``handler`` must not be ``async``.
    """
    return InlineClient(handler, **options)


class InlineClient(Client):
    """See ``inline``. Close it, or use it in a ``with`` statement."""

    __slots__ = ("_consumer", "_lock", "_operation", "_queue", "_run")

    def __init__(self, handler: Callable[..., Any], **options: Unpack[WorkerOptions]) -> None:
        handler, options = unwrapped(handler, options)
        signature = Signature(handler)
        if signature.is_async:
            raise ValueError("an async handler does not run inline; use testing.memory() and a Worker")
        super().__init__(_haulage.connect_manual().wait(), "memory://")
        size = options.get("max_batch_size")
        non_retryable = tuple(options.get("non_retryable", ()))
        run = single if size is None else batch
        self._run = run(signature, lambda: non_retryable)
        # One thread, the caller's, which takes calls while it waits.
        self._queue = _haulage.Queue(1, _no_thread)
        self._queue.enter()
        self._lock = threading.RLock()
        self._consumer = _haulage.Consumer(self._core, self._queue, max_batch_size=size)
        self._operation = self._consumer.run()
        on_start = options.get("on_start")
        if on_start is not None:
            on_start()

    def submit(self, body: Any, **options: Unpack[JobOptions]) -> JobHandle:
        """Submits a job, and runs it."""
        return self.submit_many([body], **options)[0]

    def submit_many(self, bodies: Iterable[Any], **options: Unpack[JobOptions]) -> list[JobHandle]:
        """Submits jobs, and runs them."""
        handles = super().submit_many(bodies, **options)
        self._work_off([handle.id for handle in handles])
        return handles

    def wait(self, jobs: Iterable[JobHandle | str], timeout: Seconds | None = None) -> list[Record]:
        """The records; a job that was put back to work is run."""
        jobs = list(jobs)
        self._work_off([job if isinstance(job, str) else job.id for job in jobs])
        return super().wait(jobs, timeout)

    def _work_off(self, ids: list[str]) -> None:
        with self._lock:
            while True:
                records = [self.record(job_id) for job_id in ids]
                waiting = [record for record in records if not record.status.is_terminal]
                if not waiting:
                    return
                now = self._core.now()
                due = [_micros(record) for record in waiting if record.status == "SUBMITTED"]
                if len(due) == len(waiting) and all(at > now for at in due):
                    self._core.advance((min(due) - now) / 1e6 + 0.001)
                call = self._queue.take_for(0.05)
                if call is not None:
                    self._run(call)

    def close(self) -> None:
        """Ends the worker behind it."""
        self._consumer.stop_now()
        self._operation.wait_for(3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _micros(record: Record) -> int:
    from ._time import micros

    due = record.due_at
    return 0 if due is None else micros(due)


def _no_thread() -> None:
    raise RuntimeError("calls run in the caller's thread")

"""For your own tests: queues in memory, and handlers that run inline."""

from __future__ import annotations

import threading
from collections import Counter
from typing import cast

from . import _haulage
from ._client import Client
from ._time import micros
from ._worker.batch import Sorting
from ._worker.handler import Signature
from ._worker.threads import batch, broken, single
from ._worker.worker import resolved
from .errors import HaulageError, NotFinishedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Unpack

    from ._haulage import Call, NewJob, Operation, Record
    from ._options import Seconds, WorkerOptions
    from ._worker.router import Router
    from ._worker.worker import Handler

# How long a worker that is not ready waits at most, in seconds.
_LONGEST_WAIT = 60
# A handler that puts its jobs off for ever would run for ever.
_MOST_WAITS = 1000

__all__ = ["InlineClient", "inline", "memory"]


def memory() -> Client:
    """A new, empty queue in this process's memory. Give it to a ``Worker``, too."""
    return Client(_haulage.connect("memory://").wait(), "memory://")


def inline(handler: Handler, **options: Unpack[WorkerOptions]) -> InlineClient:
    """A client on which every submit runs the job to its end, in the calling thread.

    Nothing waits: retries, delays, and the pauses of a worker that is not ready pass at once,
    on a clock of their own. Records, attempts and errors are those of the real thing.
    ``handler`` is a function, tasks or an app, and must not be ``async``. Jobs that it
    submits by this client run when it has returned; it cannot wait for them.
    """
    return InlineClient(handler, **options)


class InlineClient(Client):
    """See ``inline``. Close it, or use it in a ``with`` statement."""

    __slots__ = ("_inline",)

    def __init__(self, handler: Handler, **options: Unpack[WorkerOptions]) -> None:
        signature, options = resolved(handler, options)
        if signature.is_async:
            raise ValueError("an async handler does not run inline; use testing.memory() and a Worker")
        self._inline = _InlineCore(signature, options)
        # All that submits or waits goes through it, in whichever form.
        super().__init__(cast("_haulage.Client", self._inline), "memory://")
        on_start = options.get("on_start")
        if on_start is not None:
            on_start()

    def close(self) -> None:
        """Ends the worker behind it."""
        self._inline.close()

    async def close_async(self) -> None:
        """Like ``close``."""
        self.close()


def _go_on(_why: str) -> None:
    """There is no worker that could end."""


class _InlineCore:
    """A core client that works off all there is to do before a submit or a wait goes on."""

    def __init__(self, signature: Signature | Router, options: WorkerOptions) -> None:
        self._core: _haulage.Client = _haulage.connect_manual().wait()
        size = options.get("max_batch_size")
        non_retryable = tuple(options.get("non_retryable") or ())
        if size is not None and isinstance(signature, Signature):
            self._run = batch(signature, Sorting(options), lambda: non_retryable, _go_on)
        else:
            self._run = single(signature, lambda: non_retryable, _go_on)
        # One thread, the caller's, which takes calls while it waits.
        self._queue = _haulage.CallQueue(1, _no_thread)
        self._queue.enter()
        self._lock = threading.RLock()
        self._in_handler = False
        self._closed = False
        queues = options.get("queues") or ["default"]
        names = queues.split(",") if isinstance(queues, str) else queues
        self._queues = frozenset(name.partition("=")[0].strip() for name in names)
        self._consumer = _haulage.Consumer(self._core, self._queue, max_batch_size=size, queues=queues)
        self._operation = self._consumer.run()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def submit(self, jobs: list[NewJob]) -> Operation:
        """Submits jobs, and runs them."""
        with self._lock:
            if self._closed:
                raise HaulageError("the inline client is closed; submit before that")
            operation = self._core.submit(jobs)
            while not operation.wait_for(1):
                pass
            # In a handler: whoever runs that one goes on with these.
            if not self._in_handler:
                self._work_off()
            return operation

    def wait(self, ids: list[str], timeout: Seconds | None = None) -> Operation:
        """The records; a job that was put back to work is run."""
        with self._lock:
            if not self._in_handler:
                self._work_off()
                self._refuse_to_wait_for_others(ids)
            else:
                self._refuse_to_wait(ids)
            return self._core.wait(ids, timeout)

    def _refuse_to_wait(self, ids: list[str]) -> None:
        records: list[Record] = self._core.get(ids, "status").wait()
        for record in records:
            if not record.status.is_terminal:
                raise NotFinishedError(
                    f"job {record.id} runs when the handler that waits for it has returned: inline, there is "
                    "one thread; use testing.memory() and a Worker with concurrency=2"
                )

    def _refuse_to_wait_for_others(self, ids: list[str]) -> None:
        records: list[Record] = self._core.get(ids, "status").wait()
        for record in records:
            if not record.status.is_terminal and record.queue not in self._queues:
                raise NotFinishedError(
                    f"job {record.id} waits in the queue {record.queue}, which nobody serves: "
                    f"give inline(…, queues=[{record.queue!r}])"
                )

    def _served(self) -> Counter[str]:
        """The numbers of the queues that are served, but for those that are paused."""
        served: Counter[str] = Counter()
        stats: dict[str, Any] = self._core.stats().wait()
        for name, queue in stats["queues"].items():
            if name in self._queues and not queue["is_paused"]:
                served.update({name: queue[name] for name in ("due", "in_progress", "delayed", "blocked")})
        return served

    def _work_off(self) -> None:
        waits = 0
        while not self._closed:
            stats = self._served()
            if stats["due"] or stats["in_progress"]:
                call = self._queue.take_for(0.05)
                if call is not None:
                    self._carry_out(call)
                    continue
                if self._consumer.state != "not ready":
                    continue
                self._core.advance(_LONGEST_WAIT)
            elif stats["delayed"]:
                self._pass_time(stats["delayed"] + stats["blocked"])
            else:
                return
            waits += 1
            if waits > _MOST_WAITS:
                raise HaulageError(
                    f"after {_MOST_WAITS} waits there are still jobs to do: the handler puts them off, or is "
                    "not ready, each time"
                )

    def _carry_out(self, call: Call) -> None:
        self._in_handler = True
        try:
            self._run(call)
        except BaseException as error:
            # Ctrl-C, or the end of a test that the handler has found to fail.
            broken(call, error)
            raise
        finally:
            self._in_handler = False

    def _pass_time(self, jobs: int) -> None:
        records: list[Record] = []
        for queue in self._queues:
            records += self._core.list("SUBMITTED", dead=False, limit=jobs, queue=queue).wait()
        due = [micros(record.due_at) for record in records if record.due_at is not None]
        if due:
            self._core.advance(max(0, min(due) - self._core.now()) / 1e6 + 0.001)

    def close(self) -> None:
        """Ends the worker."""
        self._closed = True
        self._consumer.stop_now()
        self._operation.wait_for(3)


def _no_thread() -> None:
    raise RuntimeError("calls run in the caller's thread")

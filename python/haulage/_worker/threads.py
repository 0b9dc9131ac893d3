"""Runs handlers in threads, or as tasks of an event loop."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref

from .._haulage import CallQueue
from .batch import Batch, Sorting
from .handler import Signature, describe, failure, interrupts
from .overdue import Overdue
from .running import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from .._haulage import Call, Consumer, Context
    from .handler import Answer
    from .router import Router
    from .running import Place

    NonRetryable = Callable[[], tuple[type[BaseException], ...]]

_log = logging.getLogger("haulage.threads")

# How long the event loop has to answer at the least, in seconds: a machine may be busy.
_ANSWER = 5.0


def broken(call: Call, error: BaseException) -> None:
    """Ends a call around whose handler something went wrong: no call may be left without an end.

    Does nothing where the call has ended, as the exception is the handler's then, and told.
    """
    try:
        words = describe(error)
    except Exception:
        words = type(error).__name__.encode("ascii", "replace").decode()
    if call.retry(f"the worker could not carry out the call: {words}"):
        # Whatever the program's logging does.
        with contextlib.suppress(Exception):
            _log.error("a call could not be carried out", exc_info=error)


def told(
    answers: list[Answer], jobs: list[tuple[Any, Context]], give_up: Callable[[str], None]
) -> list[Answer]:
    """The answers of a worker without child processes: it ends where a handler says that it is broken."""
    kept: list[Answer] = []
    for answer, (_, context) in zip(answers, jobs):
        if answer[0] == "broken":
            give_up(str(answer[1]))
            answer = ("put_back", str(answer[1]), context.attempt)
        kept.append(answer)
    return kept


class Threads:
    """Takes calls in up to so many threads, which are started as they are needed."""

    def __init__(
        self,
        concurrency: int,
        run: Callable[[Call], None],
        give_up: Callable[[str], None] | None = None,
    ) -> None:
        """With ``give_up``, calls that go on when their jobs are over are looked after."""
        self._run = run
        self._count = 0
        self._overdue = None if give_up is None else Overdue(concurrency, self._replace, give_up)
        # The queue does not hold what holds it: the collector does not see through it.
        start_one = weakref.WeakMethod(self._start_one)

        def start() -> None:
            method = start_one()
            if method is not None:
                method()

        self.queue = CallQueue(concurrency, start)

    def serve(self, consumer: Consumer, grace: float | None) -> None:
        """Tells it of the consumer that has the calls carried out, and of its ``cancel_grace_period``,
        before the first.
        """
        if self._overdue is not None:
            self._overdue.serve(consumer, grace)

    def start(self) -> None:
        """Starts the first."""
        self._start_one()
        if self._overdue is not None:
            self._overdue.start()

    def _start_one(self) -> None:
        self._count += 1
        # Not waited for at the end: a handler that hangs must not keep the process.
        name = f"haulage-{self._count}"
        threading.Thread(target=self._work, args=(self._count,), name=name, daemon=True).start()

    def _replace(self) -> None:
        self.queue.replace()
        self._start_one()

    def _work(self, number: int) -> None:
        overdue = self._overdue
        call = self.queue.take(True)
        while call is not None:
            if overdue is not None:
                overdue.begin(number, call)
            try:
                self._run(call)
            except BaseException as error:
                broken(call, error)
            if overdue is not None and overdue.end(number):
                self.queue.leave()
                return
            call = self.queue.take(False)

    def close(self) -> None:
        """Sends them home."""
        self.queue.close()
        if self._overdue is not None:
            self._overdue.close()


def single(
    signature: Signature | Router,
    non_retryable: NonRetryable,
    give_up: Callable[[str], None],
    place: Place | None = None,
) -> Callable[[Call], None]:
    """Runs a function of one job."""
    function = signature.call

    def run(call: Call) -> None:
        # One, or none where its body cannot be decoded.
        for body, context in call.jobs():
            try:
                with Running((context,), place):
                    result = function(body, context)
            except BaseException as error:
                call.finish(told([failure(error, non_retryable())], [(body, context)], give_up))
                if interrupts(error):
                    raise
            else:
                call.succeed(result)

    return run


def batch(
    signature: Signature,
    sorting: Sorting,
    non_retryable: NonRetryable,
    give_up: Callable[[str], None],
    place: Place | None = None,
) -> Callable[[Call], None]:
    """Runs a function of a list of jobs."""

    def run(call: Call) -> None:
        jobs = call.jobs()
        if not jobs:
            return
        batch = Batch(signature, sorting, jobs, non_retryable())
        for part in iter(batch.next, None):
            try:
                with Running([context for _, context in part], place):
                    batch.returned(signature.call_batch(part))
            except BaseException as error:
                if interrupts(error):
                    batch.interrupted(error)
                    call.finish(told(batch.answers, jobs, give_up))
                    raise
                batch.failed(error)
        call.finish(told(batch.answers, jobs, give_up))

    return run


class Tasks:
    """Takes calls in one thread, and runs each as a task of one event loop in another."""

    def __init__(
        self,
        concurrency: int,
        signature: Signature | Router,
        sorting: Sorting | None,
        non_retryable: NonRetryable,
        give_up: Callable[[str], None],
        give_up_now: Callable[[str], None],
        place: Place | None = None,
    ) -> None:
        """``sorting`` is that of batches, where the function takes them.

        ``give_up_now`` is for where what runs beside cannot come to its end either.
        """
        import asyncio

        self._signature = signature
        self._non_retryable = non_retryable
        self._sorting = sorting
        self._give_up = give_up
        self._give_up_now = give_up_now
        self._place = place
        self._overdue = Overdue(concurrency, self._look_at_loop, self._too_many)
        self._begun = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._pump = Threads(1, self._hand_over)
        self.queue = self._pump.queue

    def serve(self, consumer: Consumer, grace: float | None) -> None:
        """As that of ``Threads``."""
        self._overdue.serve(consumer, grace)

    def start(self) -> None:
        """Starts the loop."""
        threading.Thread(target=self._serve, name="haulage-asyncio", daemon=True).start()
        self._pump.start()
        self._overdue.start()

    def _serve(self) -> None:
        import asyncio

        asyncio.set_event_loop(self._loop)
        try:
            while not self._closed:
                try:
                    self._loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:
                    # `sys.exit()` in a task that a handler has started: asyncio lets it end the
                    # loop. The loop is as good as before, and the other jobs are in it.
                    _log.error("a task of the event loop raised %r; the loop goes on", error)
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                self._loop.run_until_complete(asyncio.wait(self._tasks, timeout=1))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _hand_over(self, call: Call) -> None:
        try:
            self._loop.call_soon_threadsafe(self._begin, call)
        except RuntimeError:
            # The loop is closed. At the end of the worker, the call is given back as it is dropped.
            if not self._closed:
                raise

    def _begin(self, call: Call) -> None:
        task = self._loop.create_task(self._run(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, call: Call) -> None:
        self._begun += 1
        number = self._begun
        self._overdue.begin(number, call)
        try:
            jobs = call.jobs()
            if jobs:
                call.finish(told(await self._answers(jobs), jobs, self._give_up))
        except BaseException as error:
            broken(call, error)
        finally:
            self._overdue.end(number)

    def _too_many(self, why: str) -> None:
        self._give_up(why)
        self._look_at_loop()

    def _look_at_loop(self) -> None:
        # The slot is free, as the call is over. All that the next one needs is the event loop.
        answered = threading.Event()
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(answered.set)
            if not answered.wait(max(self._overdue.grace, _ANSWER)) and not self._closed:
                self._give_up_now(
                    "a handler still runs though its job is over, and blocks the event loop in which all the "
                    "others run; have async handlers await what takes long, by asyncio.to_thread where it "
                    "is not async"
                )

    async def _answers(self, jobs: list[tuple[Any, Any]]) -> list[Answer]:
        import asyncio

        work = asyncio.ensure_future(self._call(jobs))
        watches = [context.cancellation() for _, context in jobs]
        told = len(jobs)

        def stop() -> None:
            # A batch goes on for as long as somebody wants one of its jobs.
            nonlocal told
            told -= 1
            if told == 0:
                work.cancel()

        for watch in watches:
            if not watch.notify(lambda: self._loop.call_soon_threadsafe(stop)):
                stop()
        try:
            return await work
        except asyncio.CancelledError as error:
            # Before the first step of it.
            return [failure(error, self._non_retryable())] * len(jobs)
        finally:
            for watch in watches:
                watch.abort()

    async def _call(self, jobs: list[tuple[Any, Any]]) -> list[Answer]:
        # Exceptions become answers in here: `sys.exit()` that left the task would end the loop.
        signature = self._signature
        if self._sorting is not None and isinstance(signature, Signature):
            batch = Batch(signature, self._sorting, jobs, self._non_retryable())
            for part in iter(batch.next, None):
                try:
                    with Running([context for _, context in part], self._place):
                        batch.returned(await signature.call_batch(part))
                except BaseException as error:
                    batch.failed(error)
            return batch.answers
        try:
            with Running([jobs[0][1]], self._place):
                return [("ok", await signature.call(*jobs[0]))]
        except BaseException as error:
            return [failure(error, self._non_retryable())]

    def close(self) -> None:
        """Ends what still runs, and the loop."""
        self._closed = True
        self._pump.close()
        self._overdue.close()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)

"""Runs handlers in threads, or as tasks of an event loop."""

from __future__ import annotations

import contextlib
import threading

from ._handler import Signature, batch_answers, failure
from ._haulage import Queue

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from ._handler import Answer
    from ._haulage import Call

    NonRetryable = Callable[[], tuple[type[BaseException], ...]]


class Threads:
    """Takes calls in up to so many threads, which are started as they are needed."""

    def __init__(self, concurrency: int, run: Callable[[Call], None]) -> None:
        self._run = run
        self._count = 0
        self.queue = Queue(concurrency, self._start_one)

    def start(self) -> None:
        """Starts the first."""
        self._start_one()

    def _start_one(self) -> None:
        self._count += 1
        # Not waited for at the end: a handler that hangs must not keep the process.
        threading.Thread(target=self._work, name=f"haulage-{self._count}", daemon=True).start()

    def _work(self) -> None:
        call = self.queue.take(True)
        while call is not None:
            self._run(call)
            call = self.queue.take(False)

    def close(self) -> None:
        """Sends them home."""
        self.queue.close()


def single(signature: Signature, non_retryable: NonRetryable) -> Callable[[Call], None]:
    """Runs a function of one job."""
    function = signature.call

    def run(call: Call) -> None:
        try:
            ((body, context),) = call.jobs()
            result = function(body, context)
        except BaseException as error:
            call.finish([failure(error, non_retryable())])
        else:
            call.succeed(result)

    return run


def batch(signature: Signature, non_retryable: NonRetryable) -> Callable[[Call], None]:
    """Runs a function of a list of jobs."""

    def run(call: Call) -> None:
        jobs = call.jobs()
        answers: list[Answer]
        try:
            answers = batch_answers(signature.call_batch(jobs), len(jobs))
        except BaseException as error:
            answers = [failure(error, non_retryable())] * len(jobs)
        call.finish(answers)

    return run


class Tasks:
    """Takes calls in one thread, and runs each as a task of one event loop in another."""

    def __init__(self, signature: Signature, non_retryable: NonRetryable, batched: bool) -> None:
        import asyncio

        self._signature = signature
        self._non_retryable = non_retryable
        self._batched = batched
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pump = Threads(1, self._hand_over)
        self.queue = self._pump.queue

    def start(self) -> None:
        """Starts the loop."""
        threading.Thread(target=self._serve, name="haulage-asyncio", daemon=True).start()
        self._pump.start()

    def _serve(self) -> None:
        import asyncio

        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                self._loop.run_until_complete(asyncio.wait(self._tasks, timeout=1))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def _hand_over(self, call: Call) -> None:
        # Where the loop is closed, the call is given back as it is dropped.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin, call)

    def _begin(self, call: Call) -> None:
        task = self._loop.create_task(self._run(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, call: Call) -> None:
        import asyncio

        jobs = call.jobs()
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
            answers = await work
        except BaseException as error:
            answers = [failure(error, self._non_retryable())] * len(jobs)
        for watch in watches:
            watch.abort()
        call.finish(answers)

    async def _call(self, jobs: list[tuple[Any, Any]]) -> list[Answer]:
        if self._batched:
            return batch_answers(await self._signature.call_batch(jobs), len(jobs))
        return [("ok", await self._signature.call(*jobs[0]))]

    def close(self) -> None:
        """Ends what still runs, and the loop."""
        self._pump.close()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)

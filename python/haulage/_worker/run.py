"""One run of a worker, from its first claim to its end."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from .. import _wait
from ..errors import UnavailableError

if TYPE_CHECKING:
    import asyncio

    from .._haulage import Consumer
    from .._options import Summary
    from .processes import Processes
    from .threads import Tasks, Threads

# How long jobs may take to be given back, in seconds, when nobody waits for more.
_RELEASE = 3.0


class Run:
    """May be waited for by many threads, each of which gets the summary."""

    def __init__(self, runner: Threads | Tasks | Processes, consumer: Consumer) -> None:
        self.consumer = consumer
        """What claims the jobs."""
        self._runner = runner
        self._lock = threading.Lock()
        self._summary: Summary | None = None
        try:
            runner.start()
            self._operation = consumer.run()
        except BaseException:
            runner.close()
            consumer.close()
            raise

    @property
    def has_ended(self) -> bool:
        """Whether it is over, by itself or because it was stopped."""
        return self._operation.wait_for(0)

    def wait(self, timeout: float | None = None) -> Summary | None:
        """Waits for the end; ``None`` where ``timeout`` seconds pass before it.

        Ctrl-C, where it raises an exception here, gives everything back at once.
        """
        try:
            while not self._operation.wait_for(3600 if timeout is None else timeout):
                if timeout is not None:
                    return None
        except BaseException:
            self._give_up()
            raise
        return self._close()

    def _give_up(self) -> None:
        self.consumer.stop_now()
        try:
            self._operation.wait_for(_RELEASE)
        finally:
            self._operation.abort()
            with contextlib.suppress(UnavailableError):  # it has no summary, as it was aborted
                self._close()

    def _close(self) -> Summary:
        with self._lock:
            if self._summary is None:
                self._runner.close()
                try:
                    summary: Summary = self._operation.wait()
                finally:
                    self.consumer.close()
                self._summary = summary
            return self._summary

    async def wait_async(self) -> Summary:
        """Like ``wait``; a first cancel of the task stops the consumer, a second one at once."""
        # Not at the top: workers that need no event loop start without it.
        import asyncio

        loop = asyncio.get_running_loop()
        # No task: the end of the loop cancels all tasks, and jobs may still run then.
        ended: asyncio.Future[None] = loop.create_future()
        if not self._operation.notify(lambda: loop.call_soon_threadsafe(_wait.resolve, ended)):
            ended.set_result(None)
        cancelled: asyncio.CancelledError | None = None
        while not ended.done():
            try:
                await asyncio.shield(ended)
            except asyncio.CancelledError as error:
                if cancelled is None:
                    self.consumer.stop()
                else:
                    self.consumer.stop_now()
                cancelled = error
        # In a thread, as it waits for children.
        summary = await asyncio.shield(asyncio.to_thread(self._close))
        if cancelled is not None:
            raise cancelled
        return summary

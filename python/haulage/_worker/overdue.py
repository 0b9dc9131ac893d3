"""Handlers in threads that go on when their jobs are over: nothing can end a thread."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._haulage import Call, Consumer

_log = logging.getLogger("haulage.threads")

# How often to look, in seconds: a handler that heeds its time limit is never noticed.
_EACH = 1.0


class Overdue:
    """Looks after the calls of a worker's threads.

    One that goes on for the grace period after its jobs were over loses its slot, and another thread
    takes its place. Once more of them go on than there are slots, the worker ends.
    """

    def __init__(self, slots: int, replace: Callable[[], None], give_up: Callable[[str], None]) -> None:
        self._slots = slots
        self._replace = replace
        self._give_up = give_up
        self.grace = 5.0
        """How long a handler may take to stop, in seconds."""
        self.consumer: Consumer | None = None
        """Whoever tells of them; to be set before the first call."""
        # Of each thread, by its number, the call; and since when nobody wants it. Only a thread itself
        # begins and ends, so nothing is locked where all goes well.
        self._running: dict[int, Call] = {}
        self._unwanted: dict[int, tuple[Call, float]] = {}
        self._stuck: set[int] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self) -> None:
        """Starts to look."""
        threading.Thread(target=self._look, name="haulage-overdue", daemon=True).start()

    def begin(self, thread: int, call: Call) -> None:
        """A thread begins a call."""
        self._running[thread] = call

    def end(self, thread: int) -> bool:
        """The call has ended; whether another thread has taken the place of this one."""
        del self._running[thread]
        if thread not in self._stuck:
            return False
        with self._lock:
            self._stuck.discard(thread)
            stuck = len(self._stuck)
        _log.warning("a handler that went on when its job was over has stopped")
        self._tell(stuck)
        return True

    def close(self) -> None:
        """Looks no more."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(_EACH):
            now = time.monotonic()
            for thread, call in list(self._running.items()):
                known, since = self._unwanted.get(thread, (None, now))
                if thread in self._stuck or not call.is_unwanted:
                    self._unwanted.pop(thread, None)
                elif known is not call:
                    self._unwanted[thread] = (call, now)
                elif now - since >= self.grace:
                    self._overdue(thread, call)

    def _overdue(self, thread: int, call: Call) -> None:
        jobs = ", ".join(call.job_ids)
        with self._lock:
            # It may have ended this very moment.
            if self._running.get(thread) is not call:
                return
            self._stuck.add(thread)
            stuck = len(self._stuck)
        if not call.retry("the handler did not stop when its time was over"):
            # It had just told its answer, and is about to end.
            with self._lock:
                self._stuck.discard(thread)
            return
        self._tell(stuck)
        if stuck > self._slots:
            _log.error("%s: the handler has not stopped in time, and no other thread takes its place", jobs)
            self._give_up(
                f"{stuck} handlers go on though their jobs are over, the last that of {jobs}, and nothing "
                "ends a thread but the end of its process; have handlers look at ctx.cancelled, or run them "
                "in processes, which can be ended"
            )
            return
        _log.error(
            "%s: the handler has not stopped in time; as nothing can end a thread, another takes its place",
            jobs,
        )
        self._replace()

    def _tell(self, stuck: int) -> None:
        if self.consumer is not None:
            self.consumer.set_stuck(stuck)

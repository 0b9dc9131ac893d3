"""Handlers that go on when their jobs are over: nothing can end a thread, or a task that catches its
cancel.
"""

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
    """Looks after the calls of a worker in threads, or in tasks of an event loop.

    One that goes on for the grace period after its jobs were over loses its slot to another. Once more
    of them go on than there are slots, the worker ends.
    """

    def __init__(self, slots: int, replace: Callable[[], None], give_up: Callable[[str], None]) -> None:
        """``replace`` is called when a slot is to go to another call, ``give_up`` when the worker is to
        end.
        """
        self._slots = slots
        self._replace = replace
        self._give_up = give_up
        self.grace = 5.0
        """How long a handler may take to stop, in seconds."""
        self._consumer: Consumer | None = None
        # Of each thread or task, by its number, the call; and since when nobody wants it. Only it itself
        # begins and ends, so nothing is locked where all goes well.
        self._running: dict[int, Call] = {}
        self._unwanted: dict[int, tuple[Call, float]] = {}
        self._stuck: set[int] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def serve(self, consumer: Consumer, grace: float | None) -> None:
        """Tells it of the consumer that tells of them, before the first call; ``None``: the default."""
        self._consumer = consumer
        self.grace = self.grace if grace is None else grace

    def start(self) -> None:
        """Starts to look."""
        threading.Thread(target=self._look, name="haulage-overdue", daemon=True).start()

    def begin(self, number: int, call: Call) -> None:
        """A thread or a task begins a call."""
        self._running[number] = call

    def end(self, number: int) -> bool:
        """The call has ended; whether another has taken its place."""
        del self._running[number]
        self._unwanted.pop(number, None)
        if number not in self._stuck:
            return False
        with self._lock:
            self._stuck.discard(number)
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
            for number, call in list(self._running.items()):
                known, since = self._unwanted.get(number, (None, now))
                if number in self._stuck or not call.is_unwanted:
                    self._unwanted.pop(number, None)
                elif known is not call:
                    self._unwanted[number] = (call, now)
                elif now - since >= self.grace:
                    self._overdue(number, call)
                if number not in self._running:
                    # It has ended meanwhile, perhaps before it was noted here.
                    self._unwanted.pop(number, None)

    def _overdue(self, number: int, call: Call) -> None:
        jobs = ", ".join(call.job_ids)
        with self._lock:
            # It may have ended this very moment.
            if self._running.get(number) is not call:
                return
            self._stuck.add(number)
            stuck = len(self._stuck)
        if not call.retry("the handler did not stop when its time was over"):
            # It had just told its answer, and is about to end.
            with self._lock:
                self._stuck.discard(number)
            return
        self._tell(stuck)
        if stuck > self._slots:
            _log.error("%s: the handler has not stopped in time, and no other job takes its place", jobs)
            self._give_up(
                f"{stuck} handlers go on though their jobs are over, the last that of {jobs}, and nothing "
                "ends them but the end of the process; have async handlers let CancelledError pass, and "
                "others look at ctx.cancelled, or run them in processes, which can be ended"
            )
            return
        _log.error(
            "%s: the handler has not stopped in time; as nothing can end it, its slot goes to another job",
            jobs,
        )
        self._replace()

    def _tell(self, stuck: int) -> None:
        if self._consumer is not None:
            self._consumer.set_stuck(stuck)

"""The signals that stop a worker."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .._haulage import Consumer

_in_child: Callable[[], None] | None = None


def _after_fork() -> None:
    # A child has the descriptor, too, and what it wrote there would stop its parent's worker.
    if _in_child is not None:
        _in_child()


os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def heard(consumer: Consumer, on_signal: Callable[[int], object] | None) -> Generator[None, None, None]:
    """SIGTERM, SIGINT and SIGHUP stop the consumer, even while something else holds the interpreter."""

    def hear(number: int, _frame: object) -> None:
        # The core has read the number from the descriptor already.
        if on_signal is not None:
            on_signal(number)

    names = [signal.SIGTERM, signal.SIGINT]
    # `nohup` has it ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        names.append(signal.SIGHUP)
    # The descriptor first: a signal that is heard has to reach the core.
    old_fd = signal.set_wakeup_fd(consumer.signal_fd(), warn_on_full_buffer=False)
    old = [signal.signal(name, hear) for name in names]

    def put_back(fd: int) -> None:
        # First what would go on writing to the descriptor.
        signal.set_wakeup_fd(fd)
        for name, handler in zip(names, old):
            # One that was not installed by Python cannot be put back by it.
            signal.signal(name, signal.SIG_DFL if handler is None else handler)

    global _in_child
    _in_child = functools.partial(put_back, -1)
    try:
        yield
    finally:
        _in_child = None
        put_back(old_fd)
        consumer.close_signal_fd()

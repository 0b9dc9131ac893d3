"""The first process of a container: a worker there has children that it never started.

Whatever loses its parent becomes a child of process 1, which is to take note of its end; otherwise
it stays as a zombie, until there is no room for another process. So process 1 is no worker: it
starts one, passes signals on to it, takes note of all ends, and ends with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

# What the worker is passed on.
_PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def is_first() -> bool:
    """Whether this is process 1."""
    return os.getpid() == 1


def run_in_child(arguments: list[str] | None = None) -> int:
    """Runs the program of this process once more, in a child; its exit code.

    ``arguments`` are those of the interpreter. Default: those of this process.
    """
    if arguments is None:
        fallback = [sys.executable, "-m", "haulage", *sys.argv[1:]]
        # Python 3.9 does not know how it was called.
        arguments = list(getattr(sys, "orig_argv", fallback))
    worker: list[int] = []
    early: list[int] = []

    def passed_on(number: int, _: Any) -> None:
        if worker:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker[0], number)
        else:
            early.append(number)

    for number in _PASSED:
        signal.signal(number, passed_on)
    # A group of its own, so that it does not hear Ctrl-C from the terminal as well.
    worker.append(os.posix_spawn(sys.executable, arguments, os.environ, setpgroup=0))
    for one in early:
        os.kill(worker[0], one)
    while True:
        process, status = os.wait()
        if process == worker[0]:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code

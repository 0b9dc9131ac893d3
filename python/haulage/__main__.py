"""The command line ``haulage``, also ``python -m haulage``.

It is that of the program ``haulage``, which is built into this package. A worker whose jobs are run by
a Python function is this package's own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from . import _haulage, _logging
from ._worker import first_process
from .errors import (
    ConfigError,
    HandlerLoadError,
    HaulageError,
    InvalidArgumentError,
    UnavailableError,
    WorkerBroken,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._options import Summary

# The exit codes are those of the program `haulage`.
FAILURE, USAGE, UNAVAILABLE, BROKEN = 1, 2, 7, 75

# How long the end of a worker waits for whoever reads what it prints, in seconds.
_PRINT_LIMIT = 5

# The same for the log, of one that is to end at once.
_LAST_LINES = 0.25

# Carries out a command line in another process, which has nothing of this one's environment: the
# core is loaded from its file, and nothing else of the package.
_AGAIN = (
    "import sys; from importlib.util import module_from_spec, spec_from_file_location; "
    "spec = spec_from_file_location('_haulage', sys.argv[1]); core = module_from_spec(spec); "
    "spec.loader.exec_module(core); sys.exit(core.command(['haulage', *sys.argv[2:]], [])[0])"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out a command line, by default that of this process; its exit code."""
    # Only for workers: others may read from a terminal, which a group of its own may not.
    if arguments is None and "worker" in sys.argv[1:] and first_process.is_first():
        return first_process.run_in_child()
    code, settings = _command(list(sys.argv[1:] if arguments is None else arguments))
    if settings is None:
        return code
    try:
        code = _worker(json.loads(settings))
    except (ConfigError, HandlerLoadError, InvalidArgumentError) as error:
        code = _fail(USAGE, error)
    except UnavailableError as error:
        code = _fail(UNAVAILABLE, error)
    except WorkerBroken as error:
        code = _fail(BROKEN, f"the worker is broken, and ends; run it elsewhere: {error}")
    except HaulageError as error:
        code = _fail(FAILURE, error)
    _logging.flush()
    return code


def _command(words: list[str]) -> tuple[int, str | None]:
    """The exit code, and what a worker is to do where a Python function runs its jobs."""
    again = [sys.executable, "-I", "-S", "-c", _AGAIN, _haulage.__file__]
    # As a program has them: Ctrl-C ends it at once, and does not wait for the interpreter; and a
    # program that a worker starts is told when a file gets too large.
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number, of_python in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGXFSZ, signal.SIG_IGN),
        ):
            if signal.getsignal(number) == of_python:
                before[number] = signal.signal(number, signal.SIG_DFL)
    try:
        return _haulage.command(["haulage", *words], again)
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)


def _fail(code: int, error: object) -> int:
    _logging.say("ERROR", str(error), exit_code=code)
    return code


def _worker(settings: dict[str, Any]) -> int:
    from concurrent.futures import ThreadPoolExecutor, TimeoutError

    from ._worker.worker import Worker

    try:
        _logging.start(settings["log"], settings["log_format"], settings["log_limit"])
    except ValueError as error:
        return _fail(USAGE, error)
    options: dict[str, Any] = settings["options"]
    url = options.pop("url", None)
    if url is not None:
        # Jobs that a handler submits go to the same place, as those of a program do.
        os.environ["HAULAGE_URL"] = url
    worker = Worker(settings["function"], url, **options)
    _logging.take_prints()
    stopped: list[int] = []
    summary = worker.run(on_signal=stopped.append)
    # That the worker has stopped is the last line.
    _logging.wait_for_core()
    printing = ThreadPoolExecutor(1).submit(_report, summary, settings["json"])
    try:
        printing.result(_PRINT_LIMIT)
    except TimeoutError:
        _fail(
            FAILURE,
            f"nobody has read from stdout for {_PRINT_LIMIT} s; what the worker printed last is not written",
        )
        # The end of the interpreter would wait for that, too.
        _logging.flush()
        os._exit(FAILURE)
    except BrokenPipeError:
        # Who read it has seen enough, as of the program.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        return _fail(FAILURE, f"cannot write to stdout: {error}")
    if len(stopped) > 1:
        # A handler may still run, in a thread that nothing ends but the process.
        _logging.flush(_LAST_LINES)
        os._exit(128 + stopped[-1])
    return 0


def _report(summary: Summary, as_json: bool) -> None:
    if as_json:
        _logging.print_data(json.dumps(summary))
    else:
        counts: dict[str, Any] = {**summary}
        parts = [f"{count} {name}" for name, count in counts.items() if count]
        _logging.say("INFO", f"worker stopped: {', '.join(parts) or 'no jobs'}", **counts)
    # With what handlers have printed.
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""The command ``haulage worker --python``, also ``python -m haulage worker``.

The other commands, and workers of other kinds, are those of the program ``haulage``, which is
handed them where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from . import _first_process, _logging
from ._client import DEFAULT_URL
from .errors import (
    ConfigError,
    HandlerLoadError,
    HaulageError,
    InvalidArgumentError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._options import Summary

# The exit codes are those of the program `haulage`.
FAILURE, USAGE, UNAVAILABLE = 1, 2, 7

# How long the end of a worker waits for whoever reads what it prints, in seconds.
_PRINT_LIMIT = 5

# The same for the log, of one that is to end at once.
_LAST_LINES = 0.25

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """``90s``, ``5m``, ``1h 30m``, ``2d`` in seconds; a bare number is in seconds."""
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 <= seconds < float("inf"):
            return seconds
    parts = re.findall(r"([\d.]+)\s*([a-z]+)\s*", text)
    if parts and re.fullmatch(r"([\d.]+\s*[a-z]+\s*)+", text) and all(unit in _UNITS for _, unit in parts):
        return float(sum(float(number) * _UNITS[unit] for number, unit in parts))
    raise argparse.ArgumentTypeError(
        f"{text!r} is no duration; write it like 90s, 5m, 1h30m or 2d, or as a number of seconds"
    )


_SIZES = {
    **{"": 1, "b": 1, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30},
    **{"gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9},
}


def _size(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _SIZES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; write it like 512MiB or 2GB, or as a number of bytes"
        )
    return int(found[1]) * _SIZES[found[2]]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _is_set(variable: str) -> bool:
    # What the program haulage takes for no.
    return os.environ.get(variable, "").lower() not in ("", "n", "no", "f", "false", "off", "0")


# Each is also an environment variable: `--max-batch-size` is `HAULAGE_MAX_BATCH_SIZE`.
_FLAGS: list[tuple[str, Callable[[str], Any], str, str]] = [
    ("concurrency", _count, "NUMBER", "How many jobs to run at once, in threads [default: 1]"),
    ("processes", _count, "NUMBER", "How many child processes run the jobs, one each, in place of threads"),
    ("max-batch-size", _count, "NUMBER", "Up to how many jobs a call takes; the function then takes a list"),
    ("batch-timeout", duration, "DURATION", "How long a batch waits to fill [default: 0s]"),
    ("lease", duration, "DURATION", "How long a job stays with a worker without a heartbeat [default: 30s]"),
    ("heartbeat-interval", duration, "DURATION", "How often to extend the leases [default: a third of it]"),
    ("claim-wait", duration, "DURATION", "How long one request for jobs waits [default: 20s]"),
    (
        "shutdown-grace-period",
        duration,
        "DURATION",
        "How long running jobs may finish after SIGTERM or Ctrl-C [default: 30s]",
    ),
    ("cancel-grace-period", duration, "DURATION", "How long a cancelled job may take to stop [default: 5s]"),
    ("retry-base", duration, "DURATION", "Longest wait before the first retry [default: 1s]"),
    ("retry-cap", duration, "DURATION", "Longest wait before any retry [default: 5m]"),
    ("max-jobs", _count, "NUMBER", "End when so many jobs have ended here [default: no limit]"),
    ("worker-name", str, "NAME", "Name of this worker in the records [default: host:pid]"),
    ("http-listen", str, "ADDRESS", "Address for /metrics, /health, /ready and /busy, as 127.0.0.1:9464"),
    ("cluster-name", str, "NAME", "Write metrics for CloudWatch to stdout, as those of this ECS cluster"),
    ("service-name", str, "NAME", "The ECS service whose metrics these are; goes with the cluster's name"),
    ("on-start", str, "MODULE:FUNCTION", "Function to call before the first job, in each process"),
]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="haulage", description="Durable jobs, from Python.")
    shared = argparse.ArgumentParser(add_help=False)
    for one in (parser, shared):
        one.add_argument(
            "--url",
            default=argparse.SUPPRESS,
            help=f"Where the jobs are kept [env: HAULAGE_URL] [default: {DEFAULT_URL}]",
        )
        one.add_argument(
            "--json",
            action="store_true",
            default=argparse.SUPPRESS,
            help="Say the outcome as JSON, on stdout",
        )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    worker = commands.add_parser(
        "worker",
        parents=[shared],
        help="Run jobs with a Python function",
        description="Run jobs with a Python function. SIGTERM, SIGHUP or Ctrl-C stops the worker when its "
        "jobs are done, or are given back after the grace period; a second one stops it at once. "
        "Options given to @haulage.worker hold where no flag and no environment variable says otherwise.",
    )
    worker.add_argument(
        "--python",
        metavar="MODULE:FUNCTION",
        default=os.environ.get("HAULAGE_PYTHON"),
        help="The function, as package.module:function [env: HAULAGE_PYTHON]",
    )
    for name, parse, metavar, text in _FLAGS:
        variable = "HAULAGE_" + name.upper().replace("-", "_")
        worker.add_argument(
            f"--{name}",
            type=parse,
            metavar=metavar,
            default=os.environ.get(variable) or None,
            help=f"{text} [env: {variable}]",
        )
    worker.add_argument(
        "--queue",
        action="append",
        metavar="NAME[=WEIGHT]",
        help="Queue to serve. With several, the first that has a job comes first, but each tenth job is one "
        "of the others; as NAME=WEIGHT they share by their weights. Give the flag once for each, or all of "
        "them with a comma in between [env: HAULAGE_QUEUE] [default: default]",
    )
    worker.add_argument(
        "--until-empty",
        action="store_true",
        default=_is_set("HAULAGE_UNTIL_EMPTY"),
        help="End when no job waits or runs any more; jobs with a delay and retries are waited for "
        "[env: HAULAGE_UNTIL_EMPTY]",
    )
    worker.add_argument(
        "--log",
        metavar="FILTER",
        default=os.environ.get("HAULAGE_LOG") or "info",
        help="What to log, to stderr: a level, or a filter such as `info,haulage=debug` "
        "[env: HAULAGE_LOG] [default: info]",
    )
    worker.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=os.environ.get("HAULAGE_LOG_FORMAT") or "text",
        help="How to log [env: HAULAGE_LOG_FORMAT] [default: text]",
    )
    worker.add_argument(
        "--log-limit",
        type=_size,
        metavar="SIZE",
        default=os.environ.get("HAULAGE_LOG_LIMIT") or "1MiB",
        help="How much of what one job prints and logs is kept in the log; a line counts as 100 bytes "
        "at least [env: HAULAGE_LOG_LIMIT] [default: 1MiB]",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    place = _command(words)
    command = words[place] if place < len(words) else ""
    if command == "health":
        return _health(words[place + 1 :])
    if command not in ("", "worker"):
        _hand_over(command, words)
    flag = _other_work(words[place + 1 :]) if command else None
    if flag is not None:
        _hand_over(f"worker {flag}", words)
    parsed = _parser().parse_args(words)
    if arguments is None and _first_process.is_first():
        return _first_process.run_in_child()
    try:
        code = _worker(parsed)
    except (ConfigError, HandlerLoadError, InvalidArgumentError) as error:
        code = _fail(USAGE, error)
    except UnavailableError as error:
        code = _fail(UNAVAILABLE, error)
    except HaulageError as error:
        code = _fail(FAILURE, error)
    _logging.flush()
    return code


def _command(words: list[str]) -> int:
    """Where the command is among the words: the first that is no flag, and no flag's URL; or their end."""
    place = 0
    while place < len(words) and words[place].startswith("-"):
        place += 2 if words[place] == "--url" else 1
    return place


def _other_work(words: list[str]) -> str | None:
    """What says that a worker's jobs are run by something else than a Python function."""
    for word in words:
        flag = word.partition("=")[0]
        if flag in ("--exec", "--shell", "--http", "--http-ready", "--"):
            return flag
        if flag == "--python":
            return None
    if not os.environ.get("HAULAGE_PYTHON"):
        for name in ("HAULAGE_EXEC", "HAULAGE_SHELL", "HAULAGE_HTTP"):
            if os.environ.get(name):
                return f"with {name}"
    return None


def _fail(code: int, error: object) -> int:
    _logging.say("ERROR", str(error), exit_code=code)
    return code


def _health(words: list[str]) -> int:
    """Whether a worker of this machine is well: `haulage health` of the program, for images without it."""
    import http.client

    parser = argparse.ArgumentParser(prog="haulage health", description="Ask a worker whether it is well.")
    listen = os.environ.get("HAULAGE_HTTP_LISTEN") or None
    parser.add_argument(
        "--http-listen",
        metavar="ADDRESS",
        default=listen,
        required=listen is None,
        help="Where the worker listens [env: HAULAGE_HTTP_LISTEN]",
    )
    address: str = parser.parse_args(words).http_listen
    for everywhere, here in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        if address.startswith(everywhere):
            address = here + address[len(everywhere) :]
    try:
        connection = http.client.HTTPConnection(address, timeout=4)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        text = answer.read(4096).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return _fail(FAILURE, f"the worker at {address} is not well: {error}")
    if answer.status != 200:
        return _fail(FAILURE, f"the worker at {address} is not well: HTTP {answer.status}: {text}")
    print(text)
    return 0


def _hand_over(command: str, words: list[str]) -> NoReturn:
    """Becomes the program `haulage`, where there is one beside this command."""
    mine = os.path.realpath(sys.argv[0])
    for folder in os.get_exec_path():
        program = shutil.which("haulage", path=folder)
        if program is not None and os.path.realpath(program) != mine and not _is_script(program):
            os.execv(program, ["haulage", *words])
    raise SystemExit(
        _fail(
            USAGE,
            f"the Python package knows `haulage worker --python`; `haulage {command}` is for the "
            "program haulage, which is not on the PATH: cargo install haulage-cli",
        )
    )


def _is_script(program: str) -> bool:
    # The same command of another environment.
    with open(program, "rb") as file:
        return file.read(2) == b"#!"


def _worker(parsed: argparse.Namespace) -> int:
    from concurrent.futures import ThreadPoolExecutor, TimeoutError

    from ._worker import Worker

    if not parsed.python:
        return _fail(USAGE, "nothing says how to run a job; give --python package.module:function")
    try:
        _logging.start(parsed.log, parsed.log_format, parsed.log_limit)
    except ValueError as error:
        return _fail(USAGE, error)
    options: dict[str, Any] = {}
    for name, _, _, _ in _FLAGS:
        key = name.replace("-", "_")
        if getattr(parsed, key) is not None:
            options[key] = getattr(parsed, key)
    queues = parsed.queue or [os.environ.get("HAULAGE_QUEUE") or ""]
    if any(queues):
        options["queues"] = ",".join(queues)
    if parsed.until_empty:
        options["until_empty"] = True
    worker = Worker(parsed.python, getattr(parsed, "url", None), **options)
    _logging.take_prints()
    stopped: list[int] = []
    summary = worker.run(on_signal=stopped.append)
    # That the worker has stopped is the last line.
    _logging.wait_for_core()
    printing = ThreadPoolExecutor(1).submit(_report, summary, getattr(parsed, "json", False))
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

"""What the command line's worker writes, in its own process and in its children.

The log goes to stderr by way of the core, so that no reader holds up whoever logs. What handlers
print is logged, too, unless stdout is a terminal: then nothing can be taken for a metric, or for
another line of the log.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from typing import Any

from . import _haulage
from ._worker import running

_LEVELS = {"off": 100, "error": 40, "warn": 30, "warning": 30, "info": 20, "debug": 10, "trace": 5}

# How long the end waits for whoever reads the log, in seconds.
_FLUSH_LIMIT = 2.0

# What `start` was last called with, for the children.
settings: tuple[str, str, int] | None = None

# Where stdout went that there was before what is printed was logged.
_stdout: int | None = None


class _ToCore(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            if not running.takes(record):
                return
            _haulage.log_line(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


class _Text(logging.Formatter):
    """Further lines, as of a traceback, are marked: none of them looks like a line of ours."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n  | ".join(_sanitized(super().format(record)).splitlines())

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line itself, and of which job it is; what the core tells of one says so by itself."""
        text = super().formatMessage(record)
        job: dict[str, Any] = _job(record)
        if not job or hasattr(record, "of_core"):
            return text
        return text + "".join(f" {name}={value}" for name, value in job.items())


class _Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "target": record.name,
            "message": record.getMessage(),
            **_job(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _job(record: logging.LogRecord) -> dict[str, Any]:
    """Of which job a record is; the request id only where it is not the job's own."""
    known = {name: getattr(record, name, None) for name in ("job_id", "request_id", "attempt", "slot")}
    if known["request_id"] == known["job_id"]:
        del known["request_id"]
    return {name: value for name, value in known.items() if value}


def _sanitized(text: str) -> str:
    """With what plays with a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def start(wanted: str, form: str, limit: int, fd: int | None = None) -> None:
    """Logs to stderr, or to this descriptor, as ``text`` or ``json``, of each job so many characters.

    What, is a filter such as ``info,haulage=debug``. Raises ``ValueError`` where there is no such level.
    """
    global settings
    levels: dict[str | None, int] = {}
    for part in wanted.split(","):
        name, _, level = part.strip().rpartition("=")
        if level.lower() not in _LEVELS:
            raise ValueError(f"there is no log level {level}; it is one of {', '.join(_LEVELS)}")
        levels[name.replace("::", ".") or None] = _LEVELS[level.lower()]
    _haulage.log_start(form == "json", fd)
    handler = _ToCore()
    handler.addFilter(running.JobFilter())
    text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_Json() if form == "json" else _Text(text))
    logging.basicConfig(handlers=[handler])
    for logger, number in levels.items():
        logging.getLogger(logger).setLevel(number)
    settings = (wanted, form, limit)


def take_prints() -> None:
    """Has logged what is printed from now on, unless a person sees it."""
    global _stdout
    if _haulage.stdout_is_terminal():
        return
    if settings is not None:
        running.limit(settings[2])
    _flush_streams()
    _stdout = _haulage.keep_stdout()
    # Descriptor 2 stays what it is, for what a crash says. What Python prints goes the other way.
    printed = open(1, "wb", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stderr = running.Printed(printed, errors="backslashreplace", line_buffering=True)


def wait_for_core() -> None:
    """Waits for what the core has logged so far to be written, for a while at most."""
    _haulage.logs_written(_FLUSH_LIMIT)


def takes_prints() -> bool:
    """Whether what is printed is logged."""
    return _stdout is not None


def print_data(text: str) -> None:
    """Writes a line to the stdout that there was. May wait for a reader."""
    if _stdout is None:
        print(text, flush=True)
    else:
        with open(os.dup(_stdout), "w") as stdout:
            stdout.write(text + "\n")


def say(level: str, message: str, **more: Any) -> None:
    """Says something on stderr, whatever the filter: what went wrong, or what was done."""
    if settings is not None and settings[1] == "json":
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = {"timestamp": now, "level": level, "target": "haulage", "message": message, **more}
        text = json.dumps(line)
    else:
        text = "haulage: " + "\n  ".join(_sanitized(message).splitlines())
    if not _haulage.log_line(text + "\n"):
        print(text, file=sys.stderr)


def flush(limit: float = _FLUSH_LIMIT) -> None:
    """Waits for what was printed and logged to be written, for so long at most."""
    with contextlib.suppress(Exception):
        logging.shutdown()
    _flush_streams()
    _haulage.log_flush(limit)


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()

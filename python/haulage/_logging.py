"""How the command line's worker logs, in its own process and in its children."""

from __future__ import annotations

import json
import logging
from typing import Any

_LEVELS = {"off": 100, "error": 40, "warn": 30, "warning": 30, "info": 20, "debug": 10, "trace": 5}

# What `start` was last called with, for the children.
settings: tuple[str, str] | None = None


class _Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "target": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def start(wanted: str, form: str) -> None:
    """Logs to stderr: a filter such as ``info,haulage=debug``, as ``text`` or ``json``.

    Raises ``ValueError`` where there is no such level.
    """
    global settings
    handler = logging.StreamHandler()
    text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_Json() if form == "json" else logging.Formatter(text))
    logging.basicConfig(handlers=[handler])
    for part in wanted.split(","):
        name, _, level = part.strip().rpartition("=")
        if level.lower() not in _LEVELS:
            raise ValueError(f"there is no log level {level}; it is one of {', '.join(_LEVELS)}")
        logging.getLogger(name.replace("::", ".") or None).setLevel(_LEVELS[level.lower()])
    settings = (wanted, form)

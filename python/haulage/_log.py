"""The core's log lines, handed to ``logging``."""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

from . import _haulage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

_started = allocate_lock()
_thread: threading.Thread | None = None


def refresh() -> None:
    """Takes in the level of the logger ``haulage``, and starts to hand lines on."""
    import logging
    import threading

    global _thread
    _haulage.log_level(logging.getLogger("haulage").getEffectiveLevel())
    with _started:
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_hand_on, name="haulage-log", daemon=True)
            _thread.start()


def _hand_on() -> None:
    import logging

    while (lines := _haulage.next_logs()) is not None:
        for level, name, text, job in lines:
            try:
                more: dict[str, object] = {"of_core": True}
                more.update(zip(("job_id", "request_id", "attempt", "slot"), job or ("", "", 0, "")))
                logging.getLogger(name).log(level, "%s", text, extra=more)
            except Exception as error:
                # A filter of the program's own; the other lines are not its fault.
                if logging.raiseExceptions:
                    sys.excepthook(type(error), error, error.__traceback__)


def _after_fork() -> None:
    # Another thread may have held it, and there are no other threads in the child.
    global _started, _thread
    _started, _thread = allocate_lock(), None


os.register_at_fork(after_in_child=_after_fork)

"""The child process of a worker: loads the function, and runs it on what comes in.

It has no connection to the queue: the parent claims and settles. So a child that dies takes
nothing with it but its own attempt, and one that holds the interpreter for long keeps no
heartbeat from going out.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _haulage, _logging
from .._time import moment
from ..errors import HandlerLoadError, InvalidJSONError
from . import running
from .batch import Batch, Sorting
from .frames import Closed, Line, TooLarge
from .handler import Signature, describe, failure
from .load import load, load_handler
from .worker import resolved

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from .._options import WorkerOptions
    from .handler import Answer

# How long output may take to be written when the process ends, in seconds.
_LAST_OUTPUT = 1.0


class ChildContext:
    """A ``Context`` whose job is held by the parent process."""

    def __init__(self, line: Line, call: int, index: int, known: dict[str, Any]) -> None:
        self._line = line
        self._call = call
        self._index = index
        self._stop = threading.Event()
        self.job_id: str = known["job_id"]
        self.request_id: str = known["request_id"]
        self.attempt: int = known["attempt"]
        self.max_attempts: int = known["max_attempts"]
        self.is_last_attempt: bool = known["is_last_attempt"]
        self.metadata: dict[str, str] = known["metadata"]
        self.queue: str = known["queue"]
        self.task: str | None = known["task"]
        self.group: str | None = known["group"]
        self.submitted_at: datetime = moment(known["submitted_at"])
        deadline = known["deadline"]
        self.deadline: datetime | None = None if deadline is None else moment(deadline)
        self._last_checkpoint: str | None = known["last_checkpoint"]

    @property
    def cancelled(self) -> bool:
        """Whether the handler is to stop."""
        return self._stop.is_set()

    def wait_cancelled(self, timeout: float | timedelta | None = None) -> bool:
        """Sleeps until the handler is to stop, or the time is up."""
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds()
        return self._stop.wait(timeout)

    def set_progress(self, fraction: float, message: str | None = None) -> None:
        """Tells how far the job is."""
        # Refused here, as in a thread: the parent is the wrong place for an exception.
        if message is not None:
            if not isinstance(message, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"the message of a progress is {message!r}; it is a text")
            message.encode()
        self._line.send({"call": self._call, "progress": [self._index, float(fraction), message]})

    def checkpoint(self, value: Any) -> None:
        """Leaves a JSON value of up to 64 KiB for the next attempt."""
        text = _haulage.dumps_checkpoint(value)
        self._last_checkpoint = text
        self._line.send({"call": self._call, "checkpoint": self._index}, [text])

    @property
    def last_checkpoint(self) -> Any:
        """The newest checkpoint, of this attempt or an earlier one."""
        return None if self._last_checkpoint is None else json.loads(self._last_checkpoint)

    def stop(self) -> None:
        """The parent says that the handler is to stop."""
        self._stop.set()


class Child:
    """What the process does."""

    def __init__(self, line: Line, log_fd: int | None) -> None:
        self._line = line
        self._log_fd = log_fd
        self._calls: queue.SimpleQueue[tuple[int, list[ChildContext], list[str]]] = queue.SimpleQueue()
        # The call that runs, or is about to.
        self._number = 0
        self._contexts: list[ChildContext] = []
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self) -> None:
        """Loads the function, then works until the parent is gone."""
        message, _ = self._line.receive()
        # Before anything that may take long: the end of the parent is the end of it, too.
        threading.Thread(target=self._listen, name="haulage-parent", daemon=True).start()
        try:
            if "HAULAGE_GPU" in os.environ:
                slot = int(os.environ["HAULAGE_SLOT"])
                running.in_slot(_haulage.slot_name(slot, os.environ["HAULAGE_GPU"]))
            if message["log"] is not None:
                wanted, form, limit = message["log"]
                _logging.start(wanted, form, limit, self._log_fd)
                if self._log_fd is not None:
                    running.limit(limit)
            self._place = running.Place(message["url"], message["slots"])
            on_start = None if message["on_start"] is None else load(message["on_start"])
            given: WorkerOptions = {}
            if message["max_batch_size"] is not None:
                given["max_batch_size"] = message["max_batch_size"]
            self._signature, options = resolved(load_handler(message["target"]), given)
            self._sorting = Sorting(options) if options.get("max_batch_size") is not None else None
            self._non_retryable = tuple(options.get("non_retryable") or ())
            on_start = on_start or options.get("on_start")
            if on_start is not None:
                on_start()
        except Exception as error:
            words = str(error) if isinstance(error, HandlerLoadError) else describe(error)
            self._line.send({"failed": words})
            return
        self._line.send({"ready": _plain(options)})
        while True:
            self._answer(*self._calls.get())

    def _listen(self) -> None:
        while True:
            try:
                message, texts = self._line.receive()
            except Closed as closed:
                _leave(closed)
            number = message["call"]
            if "stop" in message:
                self._stop(number, message["stop"])
            else:
                known = enumerate(message["jobs"])
                contexts = [ChildContext(self._line, number, n, one) for n, one in known]
                # At once, so that the next message may stop them.
                with self._lock:
                    self._number, self._contexts = number, contexts
                self._calls.put((number, contexts, texts))

    def _stop(self, number: int, index: int) -> None:
        with self._lock:
            if number != self._number or not self._contexts:
                return  # of a call that is over
            self._contexts[index].stop()
            if self._unwanted() and self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    def _unwanted(self) -> bool:
        return all(context.cancelled for context in self._contexts)

    def _answer(self, number: int, contexts: list[ChildContext], bodies: list[str]) -> None:
        # If this process dies before, the jobs are not to blame.
        self._line.send({"call": number, "begun": True})
        jobs: list[tuple[Any, Any]] = []
        unfit: dict[int, Answer] = {}
        for place, body in enumerate(bodies):
            try:
                jobs.append((json.loads(body), contexts[place]))
            except (ValueError, RecursionError) as error:
                why = f"the body cannot be decoded: {type(error).__name__}: {error}"
                unfit[place] = ("invalid_body", why)
        with running.Running([context for _, context in jobs], self._place):
            made = iter(self._outcome(jobs) if jobs else [])
        with self._lock:
            self._contexts = []
            self._task = None
        sent: list[Answer] = []
        texts: list[str] = []
        for place in range(len(bodies)):
            answer = unfit.get(place) or next(made)
            if answer[0] == "ok":
                try:
                    texts.append(_haulage.dumps("the result", answer[1]))
                    answer = ("json", None)
                except InvalidJSONError as error:
                    answer = ("unfit", str(error))
            sent.append(answer)
        try:
            self._line.send({"call": number, "answers": sent}, texts)
        except TooLarge as error:
            unfit_all: list[Answer] = [("unfit", f"the result is too large: {error}")] * len(sent)
            self._line.send({"call": number, "answers": unfit_all})

    def _outcome(self, jobs: list[tuple[Any, Any]]) -> list[Answer]:
        try:
            return self._call(jobs)
        except BaseException as error:
            return [failure(error, self._non_retryable)] * len(jobs)

    def _call(self, jobs: list[tuple[Any, Any]]) -> list[Answer]:
        signature = self._signature
        if self._sorting is not None and isinstance(signature, Signature):
            batch = Batch(signature, self._sorting, jobs, self._non_retryable)
            for part in iter(batch.next, None):
                try:
                    batch.returned(self._result(signature.call_batch(part)))
                except BaseException as error:
                    batch.failed(error)
            return batch.answers
        return [("ok", self._result(signature.call(*jobs[0])))]

    def _result(self, result: Any) -> Any:
        return self._awaited(result) if self._signature.is_async else result

    def _awaited(self, coroutine: Any) -> Any:
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        with self._lock:
            self._task = self._loop.create_task(coroutine)
            if self._unwanted():
                self._task.cancel()
        return self._loop.run_until_complete(self._task)


def _leave(closed: Closed) -> NoReturn:
    """Ends the process, whatever runs in it: nobody wants its result, and nobody holds its job."""
    # In a thread, as whoever reads the output may have stopped to.
    flush = threading.Thread(target=_flush, daemon=True)
    flush.start()
    flush.join(_LAST_OUTPUT)
    # Unless it was a handler that closed the line: then the parent is there, to hear how this ends.
    if closed.__cause__ is None and os.getpgrp() == os.getpid():
        # With what handlers have started: nobody else would end it, where the worker was killed.
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _flush() -> None:
    _logging.flush(_LAST_OUTPUT)


def _plain(options: WorkerOptions) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if value is None or isinstance(value, (int, float, str)):
            plain[name] = value
    queues = options.get("queues")
    if queues is not None and not isinstance(queues, str):
        plain["queues"] = dict(queues) if isinstance(queues, Mapping) else list(queues)
    return plain


def _pass(_number: int, _frame: object) -> None:
    pass


def main() -> None:
    """The process; its arguments are the descriptors of its end of the line, and of its log."""
    faulthandler.enable()
    # The parent decides when to stop; Ctrl-C and the like reach all of a group. No
    # `SIG_IGN`, which programs that the handler starts would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _pass)
    end = socket.socket(fileno=int(sys.argv[1]))
    log_fd = int(sys.argv[2])
    # Of no use to programs that the handler starts.
    end.set_inheritable(False)
    if log_fd >= 0:
        os.set_inheritable(log_fd, False)
        # A line is logged when it is printed.
        printed = open(1, "wb", closefd=False)  # noqa: SIM115
        sys.stdout = sys.stderr = running.Printed(printed, errors="backslashreplace", line_buffering=True)
    try:
        Child(Line(end), log_fd if log_fd >= 0 else None).run()
    except Closed as closed:
        _leave(closed)
    _flush()

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
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from . import _haulage
from ._frames import Closed, Pipes
from ._handler import Signature, batch_answers, describe, failure
from ._load import load
from ._time import moment
from ._worker import unwrapped
from .errors import HandlerLoadError, InvalidJSONError

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from ._handler import Answer
    from ._options import WorkerOptions


class ChildContext:
    """A ``Context`` whose job is held by the parent process."""

    def __init__(self, pipes: Pipes, index: int, known: dict[str, Any]) -> None:
        self._pipes = pipes
        self._index = index
        self._stop = threading.Event()
        self.job_id: str = known["job_id"]
        self.request_id: str = known["request_id"]
        self.attempt: int = known["attempt"]
        self.max_attempts: int = known["max_attempts"]
        self.is_last_attempt: bool = known["is_last_attempt"]
        self.metadata: dict[str, str] = known["metadata"]
        self.group: str | None = known["group"]
        self.submitted_at: datetime = moment(known["submitted_at"])
        deadline = known["deadline"]
        self.deadline: datetime | None = None if deadline is None else moment(deadline)

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
        self._pipes.send({"progress": [self._index, float(fraction), message]})

    def stop(self) -> None:
        """The parent says that the handler is to stop."""
        self._stop.set()


class Child:
    """What the process does."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._calls: queue.SimpleQueue[tuple[list[ChildContext], list[str]]] = queue.SimpleQueue()
        self._contexts: list[ChildContext] = []
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self) -> None:
        """Loads the function, then works until the parent is gone."""
        message, _ = self._pipes.receive()
        sys.path[:] = message["path"]
        try:
            on_start = None if message["on_start"] is None else load(message["on_start"])
            handler, options = unwrapped(load(message["target"]), {})
            self._signature = Signature(handler)
            batch_size = message["max_batch_size"]
            self._batched = (options.get("max_batch_size") if batch_size is None else batch_size) is not None
            self._non_retryable = tuple(options.get("non_retryable", ()))
            on_start = on_start or options.get("on_start")
            if on_start is not None:
                on_start()
        except Exception as error:
            words = str(error) if isinstance(error, HandlerLoadError) else describe(error)
            self._pipes.send({"failed": words})
            return
        self._pipes.send({"ready": _plain(options)})
        threading.Thread(target=self._listen, name="haulage-parent", daemon=True).start()
        while True:
            self._answer(*self._calls.get())

    def _listen(self) -> None:
        while True:
            try:
                message, texts = self._pipes.receive()
            except Closed:
                # Nobody wants the result any more, and nobody holds the job for us.
                os._exit(0)
            if "stop" in message:
                self._stop(message["stop"])
            else:
                contexts = [ChildContext(self._pipes, n, known) for n, known in enumerate(message["jobs"])]
                # At once, so that the next message may stop them.
                with self._lock:
                    self._contexts = contexts
                self._calls.put((contexts, texts))

    def _stop(self, index: int) -> None:
        with self._lock:
            if index >= len(self._contexts):
                return  # of a call that is over
            self._contexts[index].stop()
            if self._unwanted() and self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    def _unwanted(self) -> bool:
        return all(context.cancelled for context in self._contexts)

    def _answer(self, contexts: list[ChildContext], bodies: list[str]) -> None:
        jobs: list[tuple[Any, Any]] = [(json.loads(body), context) for body, context in zip(bodies, contexts)]
        answers: list[Answer]
        try:
            answers = self._call(jobs)
        except BaseException as error:
            answers = [failure(error, self._non_retryable)] * len(jobs)
        with self._lock:
            self._contexts = []
            self._task = None
        sent: list[Any] = []
        texts: list[str] = []
        for answer in answers:
            if answer[0] == "ok":
                try:
                    texts.append(_haulage.dumps("the result", answer[1]))
                    answer = ("json", None)
                except InvalidJSONError as error:
                    answer = ("unfit", str(error))
            elif answer[0] == "retry" and isinstance(answer[2], timedelta):
                answer = ("retry", answer[1], answer[2].total_seconds())
            sent.append(answer)
        self._pipes.send({"answers": sent}, texts)

    def _call(self, jobs: list[tuple[Any, Any]]) -> list[Answer]:
        signature = self._signature
        result = signature.call_batch(jobs) if self._batched else signature.call(*jobs[0])
        if signature.is_async:
            result = self._awaited(result)
        return batch_answers(result, len(jobs)) if self._batched else [("ok", result)]

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


def _plain(options: WorkerOptions) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if value is None or isinstance(value, (int, float, str)):
            plain[name] = value
    return plain


def _pass(_number: int, _frame: object) -> None:
    pass


def main() -> None:
    """The process; its arguments are the descriptors of its pipes."""
    faulthandler.enable()
    # The parent decides when to stop; Ctrl-C and the like reach all of a group. No
    # `SIG_IGN`, which programs that the handler starts would inherit.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _pass)
    Child(Pipes(int(sys.argv[1]), int(sys.argv[2]))).run()


if __name__ == "__main__":
    main()

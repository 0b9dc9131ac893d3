"""Runs handlers in child processes, one call each."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from ._frames import Closed, Pipes
from ._threads import Threads
from ._time import micros
from .errors import HandlerLoadError

if TYPE_CHECKING:
    from ._handler import Answer
    from ._haulage import Call, Context, Operation

_log = logging.getLogger("haulage.processes")


class ChildProcess:
    """A child process, as its parent sees it."""

    def __init__(self, target: str, on_start: str | None, max_batch_size: int | None) -> None:
        ours, theirs = os.pipe(), os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "haulage._child", str(theirs[0]), str(ours[1])],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs[0], ours[1]),
            )
        finally:
            os.close(theirs[0])
            os.close(ours[1])
        self._pipes = Pipes(ours[0], theirs[1])
        self._pipes.send(
            {
                "target": target,
                "on_start": on_start,
                "max_batch_size": max_batch_size,
                "path": [folder or os.getcwd() for folder in sys.path],
            }
        )

    def ready(self) -> dict[str, Any]:
        """Waits until it has loaded the function; the options of ``@worker``.

        Raises ``HandlerLoadError``.
        """
        try:
            message, _ = self._pipes.receive()
        except Closed:
            raise HandlerLoadError(f"the child process {self._death()} while it loaded the handler") from None
        if "failed" in message:
            raise HandlerLoadError(message["failed"])
        return dict(message["ready"])

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take a call."""
        return self._process.poll() is None

    def work(self, jobs: list[tuple[str, Context]], cancel_grace_period: float) -> list[Answer]:
        """Has it carry out a call; what is said of its death, where it dies."""
        known = [_known(context) for _, context in jobs]
        watch = _Watch(self, [context for _, context in jobs], cancel_grace_period)
        try:
            self._pipes.send({"jobs": known}, [text for text, _ in jobs])
            while True:
                message, texts = self._pipes.receive()
                if "answers" in message:
                    return _answers(message["answers"], texts)
                index, fraction, words = message["progress"]
                jobs[int(index)][1].set_progress(fraction, words)
        except Closed:
            return [("retry", f"the process that ran the job {self._death()}", None)] * len(jobs)
        finally:
            watch.end()

    def stop_job(self, index: int) -> None:
        """Tells it that a job of the call is to stop."""
        with contextlib.suppress(Closed):
            self._pipes.send({"stop": index})

    def _death(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"exited with code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"died of {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._pipes.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Watch:
    """Hands the wish to stop on to a child, and ends a child that does not heed it."""

    def __init__(self, child: ChildProcess, contexts: list[Context], grace: float) -> None:
        self._child = child
        self._grace = grace
        self._left = len(contexts)
        self._lock = threading.Lock()
        self._ended = False
        self._timer: threading.Timer | None = None
        self._operations: list[Operation] = []
        for index, context in enumerate(contexts):
            operation = context.cancellation()
            self._operations.append(operation)
            if not operation.notify(functools.partial(self._stop, index)):
                self._stop(index)

    def _stop(self, index: int) -> None:
        with self._lock:
            if self._ended:
                return
            self._child.stop_job(index)
            self._left -= 1
            if self._left == 0:
                # Nobody waits for the call any more; a thread could not be ended, a process can.
                self._timer = threading.Timer(self._grace, self._kill)
                self._timer.daemon = True
                self._timer.start()

    def _kill(self) -> None:
        with self._lock:
            if not self._ended:
                _log.warning("a handler did not stop in time; its process %s is ended", self._child.pid)
                self._child.kill()

    def end(self) -> None:
        """The call is over."""
        with self._lock:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
        for operation in self._operations:
            operation.abort()


class Processes:
    """Takes calls in as many threads as there are child processes."""

    def __init__(
        self,
        target: str,
        count: int,
        *,
        on_start: str | None,
        max_batch_size: int | None,
        cancel_grace_period: float,
    ) -> None:
        self._new = functools.partial(ChildProcess, target, on_start, max_batch_size)
        self._count = count
        self._grace = cancel_grace_period
        self._idle: queue.SimpleQueue[ChildProcess] = queue.SimpleQueue()
        self._all: set[ChildProcess] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = Threads(count, self._run)
        self.queue = self._threads.queue

    def load(self) -> dict[str, Any]:
        """Starts the children, and waits until they have loaded; the options of ``@worker``."""
        children = [self._new() for _ in range(self._count)]
        self._all.update(children)
        options: dict[str, Any] = {}
        try:
            for child in children:
                options = child.ready()
                self._idle.put(child)
        except BaseException:
            self._end()
            raise
        return options

    def start(self) -> None:
        """Starts to take calls."""
        self._threads.start()

    def _run(self, call: Call) -> None:
        child = self._idle.get()
        jobs = call.texts()
        answers: list[Answer]
        try:
            if not child.alive:
                child = self._replaced(child)
            answers = child.work(jobs, self._grace)
        except HandlerLoadError as error:
            answers = [("retry", f"a new process for the job could not be started: {error}", None)] * len(
                jobs
            )
        call.finish(answers)
        if not child.alive:
            try:
                child = self._replaced(child)
            except (HandlerLoadError, OSError) as error:
                _log.error("a child process could not be replaced: %s", error)
        self._idle.put(child)

    def _replaced(self, dead: ChildProcess) -> ChildProcess:
        with self._lock:
            self._all.discard(dead)
            if self._closed:
                return dead
            child = self._new()
            self._all.add(child)
        dead.end()
        child.ready()
        return child

    def close(self) -> None:
        """Sends the threads home, and ends the children."""
        self._threads.close()
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._closed = True
            children, self._all = self._all, set()
        for child in children:
            child.end()


def _known(context: Context) -> dict[str, Any]:
    deadline = context.deadline
    return {
        "job_id": context.job_id,
        "request_id": context.request_id,
        "attempt": context.attempt,
        "max_attempts": context.max_attempts,
        "is_last_attempt": context.is_last_attempt,
        "metadata": context.metadata,
        "group": context.group,
        "submitted_at": micros(context.submitted_at),
        "deadline": None if deadline is None else micros(deadline),
    }


def _answers(sent: list[Any], texts: list[str]) -> list[Answer]:
    results = iter(texts)
    return [("json", next(results)) if answer[0] == "json" else tuple(answer) for answer in sent]

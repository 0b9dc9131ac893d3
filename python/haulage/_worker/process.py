"""A child process that runs handlers, as its parent sees it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import _logging
from .._time import micros
from ..errors import HandlerLoadError, HaulageError, ProcessError
from .frames import Closed, Garbled, Line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._haulage import Context, Operation
    from .handler import Answer

_log = logging.getLogger("haulage.processes")

# How long children may take to end by themselves, in seconds; longer than their last output takes.
LAST_OUTPUT = 3.0

# What a child runs. The path comes first: modules of the working directory must not stand
# in for those of the standard library, which they do not in the parent either.
_MAIN = "import sys; sys.path[:] = sys.argv[3:]; from haulage._worker.child import main; main()"


@dataclass(frozen=True)
class Loaded:
    """What a child loads before it works."""

    target: str | list[str]
    on_start: str | None
    max_batch_size: int | None
    timeout: float | None
    """How long that may take, in seconds."""
    url: str
    """Where the jobs are."""
    slots: int
    """How many calls the worker runs at once."""


class ChildProcess:
    """A child process, as its parent sees it."""

    def __init__(self, what: Loaded, environment: dict[str, str]) -> None:
        self._calls = 0
        # The last call that it has begun.
        self._begun = 0
        self._gone = threading.Event()
        ours, theirs = socket.socketpair()
        logged = _logging.takes_prints()
        # What the child logs has its form already; what is printed there is logged here.
        log = os.dup(2) if logged else -1
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        *_interpreter_flags(),
                        "-c",
                        _MAIN,
                        str(theirs.fileno()),
                        str(log),
                        *(folder or os.getcwd() for folder in sys.path),
                    ],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **environment},
                    stderr=subprocess.STDOUT if logged else None,
                    pass_fds=(theirs.fileno(), *((log,) if logged else ())),
                    # The leader of a group, which ends with it.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
            finally:
                if logged:
                    os.close(log)
        self._line = Line(ours)
        self._timeout = what.timeout
        # The end of the line would not tell: a program that the handler has started may hold it.
        watch = threading.Thread(target=self._await_end, name="haulage-child", daemon=True)
        try:
            watch.start()
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._line.close()
            raise
        # Where it is gone already, `ready` says so.
        with contextlib.suppress(Closed):
            self._line.send(
                {
                    "target": what.target,
                    "on_start": what.on_start,
                    "max_batch_size": what.max_batch_size,
                    "url": what.url,
                    "slots": what.slots,
                    "log": _logging.settings,
                }
            )

    def _await_end(self) -> None:
        if hasattr(os, "waitid"):
            # While its id is still its own, so that it is its group and no other's that ends.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._gone.set()
        self._line.hang_up()

    def ready(self) -> dict[str, Any]:
        """Waits until it has loaded the function; the options of ``@worker``.

        Raises ``HandlerLoadError`` where that fails, and ``ProcessError`` where it dies meanwhile.
        """
        late = threading.Event()
        timer: threading.Timer | None = None
        if self._timeout is not None:

            def end() -> None:
                late.set()
                self.kill()

            timer = threading.Timer(self._timeout, end)
            timer.daemon = True
            timer.start()
        try:
            message, _ = self._line.receive()
        except Closed:
            raise ProcessError(f"the child process {self._death_at_load(late.is_set())}") from None
        finally:
            if timer is not None:
                timer.cancel()
        if "failed" in message:
            raise HandlerLoadError(message["failed"])
        return dict(message["ready"])

    @property
    def calls(self) -> int:
        """How many calls it was given."""
        return self._calls

    @property
    def memory(self) -> int | None:
        """How many bytes it has in memory; ``None`` where that cannot be read."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take a call."""
        return not self._gone.is_set()

    def work(self, jobs: list[tuple[str, Context]], cancel_grace_period: float) -> list[Answer]:
        """Has it carry out a call; what is said of its death, where it dies.

        Raises ``Closed`` where it was gone before it began: what was sent may never have been read.
        """
        self._calls += 1
        call = self._calls
        watch = _Watch(self, call, [context for _, context in jobs], cancel_grace_period)
        try:
            known = [_known(context) for _, context in jobs]
            self._line.send({"call": call, "jobs": known}, [text for text, _ in jobs])
            watch.may_tell()
            try:
                return self._answers(call, jobs)
            except Closed as closed:
                garbled = isinstance(closed, Garbled)
                if garbled:
                    self.kill()
                    self._gone.wait()
                if self._begun != call:
                    raise
                why = "sent what no handler can answer, and was ended" if garbled else "".join(self._death())
                return [("retry", f"the process that ran the job {why}", None, None)] * len(jobs)
        finally:
            watch.end()

    def _answers(self, call: int, jobs: list[tuple[str, Context]]) -> list[Answer]:
        while True:
            message, texts = self._line.receive(len(jobs))
            try:
                if message["call"] != call:
                    continue  # what a handler left running says of a job that is over
                if "begun" in message:
                    self._begun = call
                    continue
                if "answers" in message:
                    return _answers(message["answers"], texts, len(jobs))
                if "checkpoint" in message:
                    jobs[int(message["checkpoint"])][1].checkpoint_json(texts[0])
                    continue
                index, fraction, words = message["progress"]
                jobs[int(index)][1].set_progress(fraction, words)
            except (LookupError, TypeError, ValueError, OverflowError, HaulageError) as error:
                raise Garbled from error

    def stop_job(self, call: int, index: int) -> None:
        """Tells it that a job of the call is to stop. May wait for it to listen."""
        with contextlib.suppress(Closed):
            self._line.send({"call": call, "stop": index})

    def _death_at_load(self, is_late: bool) -> str:
        if is_late:
            return (
                f"had not loaded the handler after {self._timeout} s, and was ended; allow more by "
                "child_timeout (--child-timeout)"
            )
        how, guess = self._death()
        if guess:
            remedy = (
                "give the machine more memory, or the worker fewer child processes (processes, slots_per_gpu)"
            )
        else:
            remedy = "see what it printed"
        return f"{how} while it loaded the handler{guess}; {remedy}"

    def _death(self) -> tuple[str, str]:
        """How it ended, and what that may have been for; empty where nobody knows."""
        if not self._gone.wait(LAST_OUTPUT):
            self.kill()
            self._gone.wait()
            return "let go of the worker, and was ended", ""
        code = self._process.wait()
        if code >= 0:
            return f"exited with code {code}", ""
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"died of {name}", ", perhaps for want of memory" if name == "SIGKILL" else ""

    def kill(self) -> None:
        """Ends it at once; with it ends what it has started."""
        self._process.kill()

    def tell_to_end(self) -> None:
        """Has it end by itself."""
        self._line.hang_up()

    def end(self, until: float) -> None:
        """Ends it: by itself, or at this moment of ``time.monotonic``."""
        self.tell_to_end()
        if not self._gone.wait(max(0.0, until - time.monotonic())):
            self.kill()
            self._gone.wait()
        self._line.close()


def _interpreter_flags() -> list[str]:
    # As multiprocessing does it, for `-X`, `-W`, `-O` and the like.
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    return flags


class _Watch:
    """Hands the wish to stop on to a child, and ends a child that does not heed it."""

    def __init__(self, child: ChildProcess, call: int, contexts: list[Context], grace: float) -> None:
        self._child = child
        self._call = call
        self._grace = grace
        self._left = len(contexts)
        self._lock = threading.Lock()
        self._told = threading.Event()
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
            self._left -= 1
            if self._left == 0:
                # Nobody waits for the call any more; a thread could not be ended, a process can.
                self._timer = threading.Timer(self._grace, self._kill)
                self._timer.daemon = True
                self._timer.start()
        # Not in this thread, which tells everybody's news: the child may not listen for long.
        tell = threading.Thread(target=self._tell, args=(index,), name="haulage-stop", daemon=True)
        tell.start()

    def _tell(self, index: int) -> None:
        self._told.wait()
        if not self._ended:
            self._child.stop_job(self._call, index)

    def may_tell(self) -> None:
        """The child knows of the call, and so understands that it is to stop."""
        self._told.set()

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
        self._told.set()
        for operation in self._operations:
            operation.abort()


def _known(context: Context) -> dict[str, Any]:
    deadline = context.deadline
    return {
        "job_id": context.job_id,
        "request_id": context.request_id,
        "attempt": context.attempt,
        "max_attempts": context.max_attempts,
        "is_last_attempt": context.is_last_attempt,
        "metadata": context.metadata,
        "queue": context.queue,
        "task": context.task,
        "group": context.group,
        "submitted_at": micros(context.submitted_at),
        "deadline": None if deadline is None else micros(deadline),
        "last_checkpoint": context.last_checkpoint_json,
    }


# What follows the kind of an answer, as `Call.finish` takes it; after the message, it may be None.
_PARTS: dict[str, tuple[type, ...]] = {
    "json": (type(None),),
    "unfit": (str,),
    "retry": (str, float, str),
    "snooze": (str, float),
    "not_ready": (str,),
    "broken": (str,),
    "fail": (str, str),
    "cancelled": (),
    "invalid_body": (str,),
}


def _answers(sent: Any, texts: list[str], count: int) -> list[Answer]:
    """Raises one of several errors where these are no answers to so many jobs."""
    if not isinstance(sent, list) or len(sent) != count:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError("there is not an answer for each job")
    results = iter(texts)
    answers: list[Answer] = [_answer(tuple(one), results) for one in sent]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if next(results, None) is not None:
        raise ValueError("there are more texts than results")
    return answers


def _answer(sent: tuple[Any, ...], results: Iterator[str]) -> Any:
    kind, *parts = sent
    wanted = _PARTS[kind]
    if len(parts) != len(wanted):
        raise ValueError(f"an answer {kind} has other parts")
    for at, (part, one) in enumerate(zip(parts, wanted)):
        optional = kind in ("retry", "fail") and at > 0 and part is None
        if not isinstance(part, (float, int) if one is float else one) and not optional:
            raise ValueError(f"an answer {kind} has other parts")
    if kind != "json":
        return sent
    text = next(results, None)
    if text is None:
        raise ValueError("a result is missing")
    return ("json", text)

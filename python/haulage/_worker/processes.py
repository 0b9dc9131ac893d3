"""Runs handlers in child processes, one call each: slots, each of which may have a GPU of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from .._haulage import Health, slot_environment, slot_name
from ..errors import HandlerLoadError, InvalidArgumentError, ProcessError
from .device_memory import DeviceMemory
from .frames import Closed
from .process import LAST_OUTPUT, ChildProcess
from .threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._haulage import Call, Consumer, Context, Verdict
    from .handler import Answer
    from .process import Loaded

_log = logging.getLogger("haulage.processes")

# How long to wait before children are started again that all died while they loaded, in seconds.
_START_PAUSES = (1.0, 2.0)

# How many children in a row may die before they begin a call, until that counts as its attempt.
_MOST_DEATHS = 3

# How long a health check may take, in seconds.
_CHECK_LIMIT = 60.0


class _Heir:
    """A child that loads while another one still works, to take its place."""

    def __init__(self, child: ChildProcess, end: Callable[[ChildProcess], None]) -> None:
        self._child = child
        self._end = end
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._load, name="haulage-heir", daemon=True)
        self._thread.start()

    def _load(self) -> None:
        try:
            self._child.ready()
        except BaseException as error:
            self._error = error

    @property
    def is_loading(self) -> bool:
        """Whether it has not ended to load."""
        return self._thread.is_alive()

    def child(self) -> ChildProcess | None:
        """Waits until it has loaded; ``None`` where it could not."""
        self._thread.join()
        if self._error is None:
            return self._child
        _log.warning("a child process could not be replaced while it worked: %s", self._error)
        self._end(self._child)
        return None

    def drop(self) -> None:
        """Ends it, whether it has loaded or not."""
        self._child.kill()
        self._end(self._child)


class _Slot:
    def __init__(self, number: int, device: str | None) -> None:
        self.number = number
        self.device = device
        self.environment = dict(slot_environment(number, device))
        # `None` in place of one that could not be replaced.
        self.child: ChildProcess | None = None
        self.heir: _Heir | None = None
        # What ends its last child, beside the next one.
        self.ending: threading.Thread | None = None

    def __str__(self) -> str:
        return slot_name(self.number, self.device)


class Processes:
    """Takes calls in as many threads as there are child processes."""

    def __init__(self, what: Loaded, devices: list[str | None], give_up: Callable[[str], None]) -> None:
        self._what = what
        self._give_up = give_up
        self._slots = [_Slot(number, device) for number, device in enumerate(devices)]
        self._has_devices = any(device is not None for device in devices)
        self._health = Health(devices)
        # Since when no slot has worked, where none is in service.
        self._dead_since: float | None = None
        # How long a handler may take to stop before its process is ended, in seconds.
        self._cancel_grace_period = 5.0
        self.max_jobs: int | None = None
        """After how many calls a child is replaced."""
        self.max_memory: int | None = None
        """With how many bytes in memory it is."""
        self._device_memory: DeviceMemory | None = None
        self.health_check: list[str] = []
        """What has to succeed before a slot that is out of service is let try again."""
        self.quarantine_limit = 300.0
        """For how long no slot may work until the worker gives up, in seconds."""
        self._consumer: Consumer | None = None
        self._idle: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        self._all: set[ChildProcess] = set()
        self._checks: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads = Threads(len(devices), self._run)
        self.queue = self._threads.queue

    @property
    def slots(self) -> int:
        """How many there are."""
        return len(self._slots)

    def limit_device_memory(self, limit: int) -> None:
        """With how many bytes of its GPU's memory a child is replaced."""
        if not self._has_devices:
            raise InvalidArgumentError("max_device_memory_per_child goes with gpus, and there are none")
        self._device_memory = DeviceMemory(limit)

    def load(self) -> dict[str, Any]:
        """Starts the children, and waits until they have loaded; the options of ``@worker``.

        Where some of them die meanwhile, others take their places later; where all do, they are
        started anew, a few times. Raises ``HandlerLoadError`` or ``ProcessError``.
        """
        try:
            for pause in (*_START_PAUSES, None):
                try:
                    return self._load_all()
                except ProcessError as error:
                    if pause is None:
                        raise
                    _log.warning("%s; trying again in %s s", error, pause)
                time.sleep(pause)
            raise AssertionError("the last pause raises")
        except BaseException:
            self.close()
            raise

    def _load_all(self) -> dict[str, Any]:
        """Raises ``ProcessError`` where not one of them lives."""
        options: dict[str, Any] | None = None
        why: ProcessError | HandlerLoadError = ProcessError("there are no child processes")
        for slot in self._slots:
            try:
                slot.child = self._start_one(slot)
            except ProcessError as error:
                why = error
        for slot in self._slots:
            if slot.child is None:
                continue
            try:
                options = slot.child.ready()
            except (ProcessError, HandlerLoadError) as error:
                self._part_with(slot)
                # A device that is broken may show only here; a handler that is, shows everywhere.
                if isinstance(error, HandlerLoadError) and not self._has_devices:
                    raise
                why = error
        if options is None:
            raise why
        for slot in self._slots:
            if slot.child is None:
                _log.warning("%s: %s; another takes its place with its first job", slot, why)
            self._idle.put(slot)
        return options

    def serve(self, consumer: Consumer, grace: float | None) -> None:
        """As that of ``Threads``."""
        self._consumer = consumer
        self._cancel_grace_period = self._cancel_grace_period if grace is None else grace
        if self._has_devices:
            consumer.set_slot_names([str(slot) for slot in self._slots])

    def start(self) -> None:
        """Starts to take calls."""
        self._threads.start()

    def _run(self, call: Call) -> None:
        slot = self._idle.get()
        verdict: Verdict = "go_on"
        reason, is_out = "", False
        answers: list[Answer]
        try:
            jobs = call.texts()
            try:
                answers = self._work(slot, jobs)
            except (HandlerLoadError, ProcessError) as error:
                reason = f"a process for the job could not be started: {error}"
                if self._has_devices and not self._closed.is_set():
                    verdict = self._health.broke(slot.number)
                    answers = [("put_back", reason, context.attempt) for _, context in jobs]
                else:
                    # The jobs have not been handed over: it is not their fault.
                    answers = [("not_ready", reason)] * len(jobs)
            else:
                verdict, reason, answers = self._judged(slot, jobs, answers)
            if verdict == "quarantine" and not self._closed.is_set():
                # First, so that no other call comes in place of this one.
                self._quarantine(slot, reason)
                is_out = True
            call.finish(answers)
            if is_out:
                return
            if verdict != "go_on":
                _log.warning("%s: its process is replaced: %s", slot, _first_line(reason))
                self._part_with(slot)
            # Before there is a job that would have to wait for it.
            self._renew(slot)
        except (HandlerLoadError, ProcessError) as error:
            if not self._closed.is_set():
                _log.error("a child process could not be replaced: %s", error)
        finally:
            if not is_out:
                self._idle.put(slot)

    def _work(self, slot: _Slot, jobs: list[tuple[str, Context]]) -> list[Answer]:
        """Has the slot's child carry out the call, or another in its place."""
        if self._has_devices:
            for _, context in jobs:
                context.set_slot(str(slot))
        for _ in range(_MOST_DEATHS):
            child = self._living(slot)
            if self.max_jobs is not None and child.calls + 1 >= self.max_jobs:
                self._begin_heir(slot)
            with contextlib.suppress(Closed):
                return child.work(jobs, self._cancel_grace_period)
            # It had died with nothing to do.
            self._part_with(slot, keep_heir=True)
        # Those that were new had loaded the handler: it is what they were handed, such as a body
        # that takes all the memory.
        why = f"{_MOST_DEATHS} processes died one after the other before they began the job"
        return [("retry", why, None, None)] * len(jobs)

    def _judged(
        self, slot: _Slot, jobs: list[tuple[str, Context]], answers: list[Answer]
    ) -> tuple[Verdict, str, list[Answer]]:
        """What the answers say of the slot, and what becomes of the jobs where it is at fault."""
        told: list[tuple[str, str, str]] = []
        for answer, (_, context) in zip(answers, jobs):
            kind: str = answer[0]
            words = str(answer[1]) if answer[0] == "retry" or answer[0] == "broken" else ""
            if answer[0] == "retry" and answer[2] is not None:
                kind = "retry_after"
            told.append((context.job_id, kind, words))
        verdict, reason, dispositions = self._health.judge(slot.number, told)
        if any(answer[0] == "json" for answer in answers):
            with self._lock:
                self._dead_since = None
        kept: list[Answer] = []
        for answer, disposition, (_, _, why), (_, context) in zip(answers, dispositions, told, jobs):
            if disposition == "put_back":
                kept.append(("put_back", f"{slot}: {why}", context.attempt))
            else:
                counts = disposition == "count" and answer[0] == "broken"
                kept.append(("retry", why, None, None) if counts else answer)
        return verdict, reason, kept

    def _quarantine(self, slot: _Slot, reason: str) -> None:
        heal = threading.Thread(target=self._heal, args=(slot,), name="haulage-heal", daemon=True)
        heal.start()
        if self._consumer is not None:
            self._consumer.quarantine(slot.number, f"{slot}: {_first_line(reason)}")
        _log.error("%s does not work, and takes no jobs until it does: %s", slot, _first_line(reason))
        self._look_at_all(reason)

    def _look_at_all(self, why: str) -> None:
        """Gives up where no slot has worked for long enough."""
        now = time.monotonic()
        with self._lock:
            if not self._health.all_out or self._closed.is_set():
                return
            began = self._dead_since is None
            since = self._dead_since = now if self._dead_since is None else self._dead_since
        left = since + self.quarantine_limit - now
        if left <= 0:
            self._give_up(f"no slot works any more: {why}")
        elif began:
            # What looks at the slots may hang, as the devices do.
            timer = threading.Timer(left, self._look_at_all, args=(why,))
            timer.daemon = True
            timer.start()

    def _heal(self, slot: _Slot) -> None:
        """Looks at a slot that is out of service, until it works."""
        self._part_with(slot)
        while not self._closed.wait(self._health.wait(slot.number)):
            why = self._fault(slot)
            if self._closed.is_set():
                return
            if why is None:
                _log.warning("%s takes jobs again; the first one decides whether it stays in service", slot)
                self._health.back(slot.number)
                if self._consumer is not None:
                    self._consumer.restore(slot.number)
                self._idle.put(slot)
                return
            _log.warning("%s still does not work: %s", slot, _first_line(why))
            self._health.still_out(slot.number)
            self._look_at_all(f"{slot}: {why}")

    def _fault(self, slot: _Slot) -> str | None:
        """Why a slot does not work; ``None`` where its health check and a new child say it does."""
        try:
            if self.health_check:
                why = self._checked(slot)
                if why is not None:
                    return why
            self._living(slot)
        except Exception as error:
            return str(error)
        return None

    def _checked(self, slot: _Slot) -> str | None:
        with self._lock:
            if self._closed.is_set():
                return "the worker stops"
            check = subprocess.Popen(
                self.health_check,
                env={**os.environ, **slot.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # Ctrl-C is for the worker.
                start_new_session=True,
            )
            self._checks.add(check)
        try:
            said, _ = check.communicate(timeout=_CHECK_LIMIT)
        except subprocess.TimeoutExpired:
            return f"its health check took longer than {_CHECK_LIMIT:.0f} s"
        finally:
            check.kill()
            self._checks.discard(check)
        code = check.returncode
        return None if code == 0 else f"its health check ended with code {code}: {_last_line(said)}"

    def _renew(self, slot: _Slot) -> None:
        """Sees to it that the slot has a child that may take another call."""
        child, heir = slot.child, slot.heir
        if child is not None and child.alive:
            used_up = self.max_jobs is not None and child.calls >= self.max_jobs
            if used_up or (heir is not None and not heir.is_loading):
                self._part_with(slot, keep_heir=True)
            elif heir is None:
                why = self._outgrown(child)
                if why is not None:
                    # It goes on until the other has loaded.
                    _log.info("%s: its process is replaced once another has loaded: %s", slot, why)
                    self._begin_heir(slot)
        self._living(slot)

    def _outgrown(self, child: ChildProcess) -> str | None:
        """What of a child is more than it may hold."""
        held = child.memory if self.max_memory is not None else None
        if held is not None and self.max_memory is not None and held > self.max_memory:
            return f"it holds {_mib(held)} of main memory, and may hold {_mib(self.max_memory)}"
        if self._device_memory is None:
            return None
        held = self._device_memory.excess(child.pid)
        if held is None:
            return None
        return f"it holds {_mib(held)} of its GPU's memory, and may hold {_mib(self._device_memory.limit)}"

    def _begin_heir(self, slot: _Slot) -> None:
        if slot.heir is None:
            # Where that fails, another is started when this one is used up.
            with contextlib.suppress(ProcessError):
                slot.heir = _Heir(self._start_one(slot), self._end)

    def _living(self, slot: _Slot) -> ChildProcess:
        """The slot's child, or another in the place of one that is dead."""
        if slot.child is not None and not slot.child.alive:
            self._part_with(slot, keep_heir=True)
        if slot.child is None and slot.heir is not None:
            heir, slot.heir = slot.heir, None
            slot.child = heir.child()
        if slot.child is None:
            if slot.ending is not None:
                # The device may have no room for two.
                slot.ending.join()
            slot.child = self._loaded(slot)
        return slot.child

    def _loaded(self, slot: _Slot) -> ChildProcess:
        child = self._start_one(slot)
        try:
            child.ready()
        except BaseException:
            self._end(child)
            raise
        return child

    def _start_one(self, slot: _Slot) -> ChildProcess:
        with self._lock:
            if self._closed.is_set():
                raise ProcessError("the worker stops")
            try:
                child = ChildProcess(self._what, slot.environment)
            except (OSError, RuntimeError) as error:
                raise ProcessError(f"a child process cannot be started: {error}") from error
            self._all.add(child)
        return child

    def _part_with(self, slot: _Slot, *, keep_heir: bool = False) -> None:
        """Ends the slot's child, and the one that was to take its place."""
        child, slot.child = slot.child, None
        if child is not None and slot.heir is not None and keep_heir:
            # The other one need not wait for its end.
            slot.ending = threading.Thread(target=self._end, args=(child,), name="haulage-end", daemon=True)
            slot.ending.start()
        elif child is not None:
            self._end(child)
        if not keep_heir and slot.heir is not None:
            heir, slot.heir = slot.heir, None
            heir.drop()

    def _end(self, child: ChildProcess) -> None:
        child.end(time.monotonic() + LAST_OUTPUT)
        if self._device_memory is not None:
            self._device_memory.forget(child.pid)
        with self._lock:
            self._all.discard(child)

    def close(self) -> None:
        """Sends the threads home, and ends the children."""
        self._threads.close()
        with self._lock:
            self._closed.set()
            children, self._all = self._all, set()
            for check in self._checks:
                check.kill()
        # All at once; then each has what is left of the time.
        until = time.monotonic() + LAST_OUTPUT
        for child in children:
            child.tell_to_end()
        for child in children:
            child.end(until)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "it said nothing"

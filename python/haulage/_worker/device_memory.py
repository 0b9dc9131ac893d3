"""How much memory child processes hold on their GPUs, by the driver's own tool."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time

_log = logging.getLogger("haulage.processes")

# Both print sizes in MiB.
_TOOL = "nvidia-smi"
_ARGUMENTS = ("--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits")
_MIB = 1 << 20

# How often it is asked at most, and how long it may take, in seconds.
EACH = 5.0
LIMIT = 5.0


class DeviceMemory:
    """Says which child processes hold too much.

    The tool takes its time, and hangs where the driver does. So it is asked in a thread, while the
    next call may run, and what a child holds meanwhile only makes it suspect. After the next call of a
    suspect the tool is asked once more, and that is waited for: what counts is what stays.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """How many bytes a child may hold."""
        self._lock = threading.Lock()
        # What asks now, or asked last; until the tool is gone, which may not even heed its end.
        self._thread: threading.Thread | None = None
        self._asked_at = float("-inf")
        # Those that have had a call, and when the tool was last waited for on their behalf.
        self._children: dict[int, float] = {}
        # Those of them that held too much when it was asked.
        self._suspects: set[int] = set()
        self._has_warned = False

    def excess(self, child: int) -> int | None:
        """How many bytes this child holds after its call, where that is too much."""
        now = time.monotonic()
        held: dict[int, int] = {}
        with self._lock:
            waited_at = self._children.setdefault(child, float("-inf"))
            is_suspect = child in self._suspects and now >= waited_at + EACH
            if self._thread is not None and self._thread.is_alive():
                return None
            if not is_suspect and now < self._asked_at + EACH:
                return None
            self._asked_at = now
            if is_suspect:
                self._children[child] = now
            asks = threading.Thread(target=self._ask, args=(held,), name="haulage-device-memory", daemon=True)
            self._thread = asks
            asks.start()
        if not is_suspect:
            return None
        asks.join(LIMIT)
        much = 0 if asks.is_alive() else held.get(child, 0)
        return much if much > self.limit else None

    def forget(self, child: int) -> None:
        """It is gone."""
        with self._lock:
            self._children.pop(child, None)
            self._suspects.discard(child)

    def _ask(self, held: dict[int, int]) -> None:
        """Fills in what each child holds."""
        try:
            tool = subprocess.Popen(
                (_TOOL, *_ARGUMENTS),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                # Ctrl-C is for the worker.
                start_new_session=True,
            )
        except OSError as error:
            self._warn(f"{_TOOL} cannot be run ({error.strerror})")
            return
        with tool:
            try:
                said, _ = tool.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                self._warn(f"{_TOOL} takes longer than {LIMIT:g} s")
                tool.kill()
                return
        if tool.returncode != 0:
            self._warn(f"{_TOOL} ends with code {tool.returncode}")
            return
        why = self._sort(said, held)
        with self._lock:
            self._suspects = {child for child in self._children if held.get(child, 0) > self.limit}
        if why is not None:
            self._warn(why)

    def _warn(self, why: str) -> None:
        with self._lock:
            has_warned, self._has_warned = self._has_warned, True
        if not has_warned:
            _log.warning(
                "max_device_memory_per_child has no effect as long as %s; what also replaces children is "
                "max_jobs_per_child",
                why,
            )

    def _sort(self, said: str, held: dict[int, int]) -> str | None:
        """Why the tool has not said what any child holds, where that is so."""
        untold: set[int] = set()
        for line in said.splitlines():
            pid, _, used = line.partition(",")
            try:
                # What the handler has started is in its child's group.
                child = os.getpgid(int(pid))
            except (ValueError, OSError):
                continue
            try:
                held[child] = held.get(child, 0) + int(used) * _MIB
            except ValueError:
                untold.add(child)
        with self._lock:
            children = set(self._children)
        if children & untold:
            return f"{_TOOL} does not say how much memory a process holds (it prints [N/A])"
        if children & held.keys():
            return None
        return (
            f"{_TOOL} names none of the worker's processes: they have not used their GPUs yet, or this is a "
            "container, which has to share the process ids of its host (docker run --pid=host)"
        )

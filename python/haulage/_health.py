"""Whether the slots of a worker work: decided here, by what became of their jobs.

Nothing in here waits, or asks a clock.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

# Where an exception says so, it is the device's fault. "Out of memory" is a job's, too: only twice
# in a row it is a device's, of which something else holds the memory, or that lost some of it.
BROKEN = (
    r"CUDA error",
    r"CUBLAS_STATUS_(?!NOT_SUPPORTED|INVALID_VALUE)",
    r"CUDNN_STATUS_(?!NOT_SUPPORTED|BAD_PARAM)",
    r"HIP error",
    r"\bXid\b",
    r"device-side assert",
    r"NVML: .*(lost|Unknown Error)",
)
_OUT_OF_MEMORY = re.compile(r"(CUDA|HIP|GPU|device).{0,80}out of memory|OutOfMemoryError", re.I | re.S)

# So many failures in a row look like the slot's fault, where the other slots have none.
_SUSPICIOUS = 3

# How long a slot is out of service at first, and at most, in seconds.
_FIRST, _LONGEST = 1.0, 300.0

# How many jobs are remembered that broke a slot.
_REMEMBERED = 1000


class Verdict(enum.Enum):
    """What is to be done with a slot."""

    GO_ON = enum.auto()
    """Nothing."""
    REPLACE = enum.auto()
    """Its process is replaced."""
    QUARANTINE = enum.auto()
    """It takes no more jobs until it has shown that it works."""


@dataclass
class _Slot:
    # Since its last success: how often it broke, failed, ran out of memory, was out of service.
    broke: int = 0
    failed: int = 0
    out_of_memory: int = 0
    quarantined: int = 0
    # What became of jobs elsewhere since it began to fail.
    others_worked: int = 0
    others_failed: int = 0
    is_out: bool = False
    # It is out because of failures, and nothing has shown yet that these are its own.
    unproven: bool = False


class Health:
    """The slots of one worker. ``devices`` says whether they differ, as each has a device of its own."""

    def __init__(self, slots: int, *, devices: bool, patterns: tuple[str, ...] = BROKEN) -> None:
        self._slots = [_Slot() for _ in range(slots)]
        self._devices = devices
        self._broken = [re.compile(pattern) for pattern in patterns]
        # Jobs that broke a slot, the oldest first.
        self._breakers: dict[str, None] = {}

    def succeeded(self, number: int) -> None:
        """A job succeeded there."""
        self._slots[number] = _Slot()
        for slot in self._others(number):
            slot.others_worked += 1
            slot.unproven = False

    def failed(self, number: int, error: str) -> Verdict:
        """An attempt failed there, for this reason."""
        slot = self._slots[number]
        # The traceback below it may name anything.
        error = error.partition("\n\n")[0]
        if self._devices:
            if _OUT_OF_MEMORY.search(error):
                slot.out_of_memory += 1
                if slot.out_of_memory > 1:
                    return self.broke(number)
            elif any(pattern.search(error) for pattern in self._broken):
                return self.broke(number)
            else:
                slot.out_of_memory = 0
        for other in self._others(number):
            other.others_failed += 1
        slot.failed += 1
        if slot.failed == 1:
            slot.others_worked = slot.others_failed = 0
        if slot.quarantined and self._devices:
            # It was let try again.
            return self._out(slot)
        in_service = [other for other in self._others(number) if not other.is_out]
        alone = slot.others_failed == 0 or slot.others_worked > 2 * slot.others_failed
        if self._devices and slot.failed >= _SUSPICIOUS and in_service and alone:
            slot.unproven = slot.others_worked == 0
            return self._out(slot)
        return Verdict.GO_ON

    def broke(self, number: int) -> Verdict:
        """It says of itself that it does not work, or does not start."""
        slot = self._slots[number]
        slot.broke += 1
        if slot.broke == 1 and not slot.quarantined:
            return Verdict.REPLACE
        return self._out(slot)

    def is_breaker(self, job_id: str) -> bool:
        """Whether this job broke a slot before; from now on, it has."""
        if job_id in self._breakers:
            return True
        self._breakers[job_id] = None
        if len(self._breakers) > _REMEMBERED:
            del self._breakers[next(iter(self._breakers))]
        return False

    def acquitted(self) -> list[int]:
        """The slots that are out of service for failures that other slots have as well by now."""
        found = [
            number
            for number, slot in enumerate(self._slots)
            if slot.is_out and slot.unproven and slot.others_failed
        ]
        for number in found:
            self._slots[number] = _Slot()
        return found

    def wait(self, number: int) -> float:
        """How long to leave a slot that is out of service alone, in seconds."""
        return min(_FIRST * 2.0 ** (self._slots[number].quarantined - 1), _LONGEST)

    def back(self, number: int) -> None:
        """It is let try again: its first job decides."""
        slot = self._slots[number]
        slot.is_out = slot.unproven = False
        slot.broke = slot.failed = slot.out_of_memory = 0

    def still_out(self, number: int) -> None:
        """It was looked at, and does not work."""
        self._out(self._slots[number])

    @property
    def all_out(self) -> bool:
        """Whether no slot is in service."""
        return all(slot.is_out for slot in self._slots)

    def _out(self, slot: _Slot) -> Verdict:
        slot.is_out = True
        slot.quarantined += 1
        return Verdict.QUARANTINE

    def _others(self, number: int) -> list[_Slot]:
        return [slot for other, slot in enumerate(self._slots) if other != number]

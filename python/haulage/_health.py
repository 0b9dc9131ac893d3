"""Whether the slots of a worker work: decided here, by what became of their jobs.

Nothing in here waits, or asks a clock.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field

# Where an exception says so, it is the device's fault. "Out of memory" is a job's, too: only twice
# in a row it is a device's, of which something else holds the memory, or that lost some of it.
_BROKEN = re.compile(
    r"CUDA error"
    r"|CUBLAS_STATUS_(?!NOT_SUPPORTED|INVALID_VALUE)"
    r"|CUDNN_STATUS_(?!NOT_SUPPORTED|BAD_PARAM)"
    r"|HIP error"
    r"|\bXid\b"
    r"|device-side assert"
)
_OUT_OF_MEMORY = re.compile(r"(CUDA|HIP|GPU|device).{0,80}out of memory|OutOfMemoryError", re.I | re.S)

# So many failures in a row look like the slot's fault, where the other devices have none.
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


def names_device(error: str) -> bool:
    """Whether an exception says that the device does not work."""
    # The traceback below it may name anything.
    return _BROKEN.search(error.partition("\n\n")[0]) is not None


@dataclass
class _Slot:
    device: str | None
    # Whether a job has ever succeeded there.
    worked: bool = False
    # Since the last success: how often it broke, failed, ran out of memory, was out of service.
    broke: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    out_of_memory: int = field(default=0, init=False)
    quarantined: int = field(default=0, init=False)
    is_out: bool = field(default=False, init=False)


class Health:
    """The slots of one worker, by the device of each; ``None`` where slots do not differ."""

    def __init__(self, devices: list[str | None]) -> None:
        self._slots = [_Slot(device) for device in devices]
        # Jobs that broke a slot, and which; the oldest first.
        self._breakers: dict[str, int] = {}

    def succeeded(self, number: int) -> None:
        """A job succeeded there."""
        self._slots[number] = _Slot(self._slots[number].device, worked=True)

    def failed(self, number: int, error: str) -> Verdict:
        """An attempt failed there, for this reason, which does not name the device."""
        slot = self._slots[number]
        if slot.device is None:
            return Verdict.GO_ON
        out_of_memory = _OUT_OF_MEMORY.search(error.partition("\n\n")[0]) is not None
        slot.out_of_memory = slot.out_of_memory + 1 if out_of_memory else 0
        if slot.out_of_memory > 1:
            return self.broke(number)
        slot.failed += 1
        # One that is let try again has to show that it works.
        enough = slot.failed >= (1 if slot.quarantined else _SUSPICIOUS)
        if enough and self._is_alone(slot):
            return self._out(slot)
        if slot.quarantined:
            # It is as the others are.
            slot.quarantined = 0
        return Verdict.GO_ON

    def _is_alone(self, slot: _Slot) -> bool:
        """Whether the other devices have no such failures, or few of them have."""
        others = [other for other in self._slots if other.device != slot.device and not other.is_out]
        failing = sum(other.failed > 0 for other in others)
        working = sum(other.worked and not other.failed for other in others)
        # Where none has ended a job yet, a trial will show: jobs may take hours.
        return bool(others) and (failing == 0 or working > failing)

    def broke(self, number: int) -> Verdict:
        """It says of itself that it does not work, or does not start."""
        slot = self._slots[number]
        slot.broke += 1
        if slot.broke == 1 and not slot.quarantined:
            return Verdict.REPLACE
        return self._out(slot)

    def is_breaker(self, job_id: str, number: int) -> bool:
        """Whether this job broke another slot."""
        return self._breakers.get(job_id, number) != number

    def remember(self, job_id: str, number: int) -> None:
        """This job broke this slot."""
        self._breakers.setdefault(job_id, number)
        if len(self._breakers) > _REMEMBERED:
            del self._breakers[next(iter(self._breakers))]

    def wait(self, number: int) -> float:
        """How long to leave a slot that is out of service alone, in seconds."""
        return min(_FIRST * 2.0 ** min(self._slots[number].quarantined - 1, 9), _LONGEST)

    def back(self, number: int) -> None:
        """It is let try again: its first job decides."""
        slot = self._slots[number]
        slot.is_out = False
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

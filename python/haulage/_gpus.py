"""Which GPUs there are, and what a process is told of the one that is its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from typing import Union

from .errors import InvalidArgumentError

Gpus = Union[str, Sequence[Union[int, str]]]

# How long a driver's tool may take, in seconds: the first call after a start wakes the devices.
_LIMIT = 30

# What each vendor's tool prints a line of for each device, with the device's number in it.
_TOOLS = (
    (("nvidia-smi", "--query-gpu=index", "--format=csv,noheader"), re.compile(r"^(\d+)\s*$")),
    (("rocm-smi", "--showid", "--csv"), re.compile(r"^card(\d+),")),
)

# A number, or a name that is one of CUDA's: of a device, or of a part of one.
_DEVICE = re.compile(r"\d+|(GPU|MIG)-[0-9A-Za-z/-]+")


def devices(gpus: Gpus) -> list[str]:
    """The devices that are meant: ``all``, or a list of numbers or names, also in one text."""
    if gpus == "all":
        return _all()
    parts = gpus.split(",") if isinstance(gpus, str) else [str(part) for part in gpus]
    named = [part.strip() for part in parts if part.strip()]
    for name in named:
        if not _DEVICE.fullmatch(name):
            raise InvalidArgumentError(f"`{name}` is no GPU: give all, or numbers such as 0,2")
    if len(set(named)) < len(named):
        raise InvalidArgumentError(
            f"a GPU is named twice in {','.join(named)}; for several processes on each, use slots_per_gpu"
        )
    if not named:
        raise InvalidArgumentError("gpus names no GPU: give all, or numbers such as 0,2")
    _check(named)
    return named


def _all() -> list[str]:
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("HIP_VISIBLE_DEVICES"))
    if seen is not None:
        # Whoever started this worker has chosen already.
        return devices(seen)
    found, why = _found()
    if found:
        return found
    raise InvalidArgumentError(f"no GPU was found ({why}); name those that there are, as in gpus=0,1")


def _check(named: list[str]) -> None:
    """Refuses a number that the driver does not know, where there is one to ask."""
    found, _ = _found()
    unknown = [name for name in named if name.isdigit() and found and name not in found]
    if unknown:
        raise InvalidArgumentError(f"there is no GPU {unknown[0]} here; there are {', '.join(found)}")


def _found() -> tuple[list[str], str]:
    """The numbers of the devices by the driver's own tool, or why there are none."""
    why = "neither nvidia-smi nor rocm-smi is here"
    for command, line in _TOOLS:
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=True)
        except FileNotFoundError:
            continue
        except (OSError, subprocess.SubprocessError) as error:
            why = f"{command[0]} failed: {error}"
            continue
        found = [match[1] for match in map(line.match, told.stdout.splitlines()) if match]
        if found:
            return found, ""
        why = f"{command[0]} names none"
    return [], why


def environment(slot: int, device: str | None) -> dict[str, str]:
    """What a process of this slot is to have in its environment, before it imports anything."""
    told = {"HAULAGE_SLOT": str(slot)}
    if device is not None:
        told["HAULAGE_GPU"] = device
        told["CUDA_VISIBLE_DEVICES"] = told["HIP_VISIBLE_DEVICES"] = device
        # By default CUDA counts the fastest first, and the tools by the place on the bus.
        told["CUDA_DEVICE_ORDER"] = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return told

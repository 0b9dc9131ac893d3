"""Quarantine on real GPUs: `python python/benches/gpu.py [SECONDS]`, where the wheel is installed.

Needs a driver whose `nvidia-smi` or `rocm-smi` lists the GPUs, and nothing but the wheel and the
standard library. Each GPU has eight slots. First all of them work; then those of the last GPU fail
each job in 10 ms (with one GPU, none: it has no others to compare it with). Prints one JSON object,
and ends with 1 where a job became a dead letter, or where the others had less than 95 % of their
share; with 2 where there is no GPU.

With NVIDIA's driver, each child makes a context on its device (`cuInit`, `cuDevicePrimaryCtxRetain`),
and each job waits for the device (`cuCtxSynchronize`), so pinning is what the driver says it is: a
child that sees any number of devices but one fails.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import haulage
from haulage import InvalidArgumentError
from haulage._haulage import gpu_devices

SLOTS = 8
JOB = 0.1

HANDLERS = f"""
import ctypes, os, time

def driver():
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None  # of another vendor
    seen, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    checked(cuda.cuInit(0))
    checked(cuda.cuDeviceGetCount(ctypes.byref(seen)))
    if seen.value != 1:
        raise RuntimeError(f"this process sees {{seen.value}} GPUs")
    checked(cuda.cuDeviceGet(ctypes.byref(device), 0))
    checked(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    return cuda, context

def checked(code):
    if code != 0:
        raise RuntimeError(f"the driver answers {{code}}")

DRIVER = driver()

def works(body):
    if DRIVER is not None:
        cuda, context = DRIVER
        checked(cuda.cuCtxSetCurrent(context))
        checked(cuda.cuCtxSynchronize())
    time.sleep({JOB})

def one_is_broken(body):
    if os.environ["HAULAGE_GPU"] == os.environ["BROKEN"]:
        time.sleep(0.01)
        raise OSError("this device does not work")
    works(body)
"""


def run(folder: Path, handler: str, gpus: list[str], seconds: float) -> tuple[int, int]:
    """How many jobs succeeded, and how many are dead letters."""
    client = haulage.connect(f"sqlite://{folder}/{handler}.db")
    client.submit_many([0] * int(seconds / JOB * SLOTS * len(gpus) * 2), max_attempts=1)
    worker = haulage.Worker(f"gpu_handlers:{handler}", client, gpus=gpus, slots_per_gpu=SLOTS)
    worker.start()
    time.sleep(seconds)
    done = client.stats()["success"]
    worker.stop_now()
    worker.stop()
    return done, client.stats()["dead"]


def main() -> int:
    """Measures, and says what came of it."""
    try:
        gpus = gpu_devices("all")
    except InvalidArgumentError as error:
        print(f"this script needs a GPU: {error}", file=sys.stderr)
        return 2
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    os.environ["BROKEN"] = gpus[-1] if len(gpus) > 1 else "none"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "gpu_handlers.py").write_text(HANDLERS)
        sys.path.insert(0, name)
        healthy, dead = run(folder, "works", gpus, seconds)
        done, more_dead = run(folder, "one_is_broken", gpus, seconds)
    share = (len(gpus) - 1 if len(gpus) > 1 else 1) / len(gpus)
    throughput = done / (healthy * share) if healthy else 0.0
    dead += more_dead
    print(
        json.dumps(
            {"gpus": gpus, "slots": SLOTS * len(gpus), "throughput": round(throughput, 3), "dead": dead}
        )
    )
    return 0 if dead == 0 and throughput >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())

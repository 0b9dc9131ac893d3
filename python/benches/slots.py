"""What a GPU that breaks costs the others, and a child process that is replaced its slot.

The devices are numbers: `gpus` tells a process which one is its own, and the handler sleeps.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import haulage

GPUS = 8
BROKEN = "7"
SECONDS = 20.0
JOB = 0.1
LOAD = 0.3

HANDLERS = f"""
import os, time

GPU = os.environ["HAULAGE_GPU"]

def healthy(body):
    time.sleep({JOB})

def one_is_broken(body):
    if GPU == "{BROKEN}":
        time.sleep(0.01)
        raise OSError("this device does not work")
    time.sleep({JOB})

if os.environ.get("SLOTS_LOAD"):
    time.sleep({LOAD})

def replaced(body):
    began = time.time()
    time.sleep({LOAD} * 2)
    return began, time.time()
"""


def prepare(folder: Path) -> None:
    """Writes the handlers where children find them."""
    (folder / "slots_handlers.py").write_text(HANDLERS)


def run(folder: Path, handler: str, gpus: int) -> tuple[float, int]:
    """Jobs that succeeded in a second, and how many attempts failed."""
    client = haulage.connect(f"sqlite://{folder}/{handler}.db")
    jobs = int(SECONDS / JOB * GPUS)
    client.submit_many([0] * jobs)
    worker = haulage.Worker(
        f"slots_handlers:{handler}", client, gpus=",".join(map(str, range(gpus))), retry_base=0.1
    )
    worker.start()
    began = time.perf_counter()
    time.sleep(SECONDS)
    done, took = client.stats()["success"], time.perf_counter() - began
    worker.stop_now()
    summary = worker.stop()
    assert summary is not None
    dead = client.stats()["dead"]
    assert dead == 0, f"{dead} jobs are dead letters because of one device"
    return done / took, summary["retried"]


def measure(folder: Path) -> dict[str, float]:
    """The share of seven healthy devices that seven and a broken one have; and the gap of a replacement."""
    healthy, _ = run(folder, "healthy", GPUS - 1)
    with_broken, failures = run(folder, "one_is_broken", GPUS)
    os.environ["SLOTS_LOAD"] = "1"
    client = haulage.connect(f"sqlite://{folder}/replaced.db")
    jobs = client.submit_many([0] * 12)
    with haulage.Worker("slots_handlers:replaced", client, gpus="0", max_jobs_per_child=1):
        times = [job.result() for job in jobs]
    gaps = [after[0] - before[1] for before, after in zip(times, times[1:])]
    return {
        "quarantine_throughput": round(with_broken / healthy, 3),
        "quarantine_failures": float(failures),
        "replacement_gap_ms": round(statistics.median(gaps) * 1e3, 1),
    }

"""Measures the Python package: `make bench-python`.

Prints a table, and as its last line one JSON object. The Rust worker that the overhead is
measured against runs in the same minutes, on the same number of jobs, with as many at once.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import haulage
import slots

JOBS = 40_000
MAPPED = 100_000
# As many as in `haulage bench`, which is what the numbers of the Rust worker belong to.
CONCURRENCY = 4_096
BODY = "x" * 198
ROUNDS = 3
POSTS = 300

WORKER = """
import os, sys, haulage
os.environ["HAULAGE_URL"] = sys.argv[1]
client = haulage.connect()
worker = haulage.Worker(lambda body: body, client, concurrency=int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
with worker:
    sys.stdin.readline()
"""


class Worker:
    """A worker in a process of its own, which does nothing with its jobs."""

    def __init__(self, url: str, concurrency: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(concurrency)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def go(self) -> None:
        """Lets it begin."""
        self._say("go")

    def end(self) -> None:
        """Lets it end."""
        self._say("end")
        self._process.communicate()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()


def done(client: haulage.Client, jobs: int) -> None:
    """Waits until so many jobs have succeeded."""
    while client.stats()["success"] < jobs:
        time.sleep(0.005)


def throughput(url: str) -> float:
    """Jobs a second, from the first submit to the last result; producer and worker side by side."""
    client = haulage.connect(url)
    worker = Worker(url, CONCURRENCY)
    worker.go()
    began = time.perf_counter()
    for _ in range(JOBS // 4_000):
        client.submit_many([BODY] * 4_000)
    done(client, JOBS)
    took = time.perf_counter() - began
    worker.end()
    return JOBS / took


def python_worker(url: str) -> float:
    """Seconds for the jobs that wait, by the Python worker."""
    client = haulage.connect(url)
    client.submit_many([BODY] * JOBS)
    worker = Worker(url, CONCURRENCY)
    began = time.perf_counter()
    worker.go()
    done(client, JOBS)
    took = time.perf_counter() - began
    worker.end()
    return took


def rust_worker(url: str, program: str) -> float:
    """The same by the Rust worker."""
    haulage.connect(url).submit_many([BODY] * JOBS)
    process = subprocess.Popen(
        [program, "--url", url, "bench-actor", "consume", str(JOBS), str(CONCURRENCY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    output, _ = process.communicate("go\n")
    seen = json.loads(output)
    return float(seen["ended"] - seen["began"]) / 1e6


def round_trips(url: str) -> float:
    """The median of `Producer.post`, in milliseconds."""
    os.environ["HAULAGE_URL"] = url
    producer = haulage.Producer("jobs", ddb_client=haulage.DynamoDBClient("jobs"))
    worker = Worker(url, 1)
    worker.go()
    producer.post(BODY)
    times: list[float] = []
    for _ in range(POSTS):
        began = time.perf_counter()
        producer.post(BODY)
        times.append(time.perf_counter() - began)
    worker.end()
    return statistics.median(times) * 1e3


def mapped(url: str) -> float:
    """Jobs a second by ``client.map``, whose results come in order."""
    client = haulage.connect(url)
    worker = Worker(url, CONCURRENCY)
    worker.go()
    began = time.perf_counter()
    results = sum(1 for _ in client.map([0] * MAPPED))
    took = time.perf_counter() - began
    worker.end()
    return results / took


ARRAY = """
import resource, sys, time, haulage, numpy
array = numpy.random.default_rng(1).random(50_000_000 // 8)
client = haulage.connect(sys.argv[1])
job = client.submit(None)
worker = haulage.Worker(lambda body: array, client)
began = time.perf_counter()
with worker:
    while not job.status().is_terminal:
        time.sleep(0.01)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def array_result(url: str) -> tuple[float, float]:
    """How long a worker takes for a numpy array of 50 MB as the result, in seconds, and the most memory
    that it has used, in MiB."""
    said = subprocess.check_output([sys.executable, "-c", ARRAY, url], text=True).split()
    return float(said[0]), float(said[1])


def import_time() -> float:
    """The median time of `import haulage` in a new interpreter, in milliseconds."""
    code = "import time; t = time.perf_counter(); import haulage; print(time.perf_counter() - t)"
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(15)]
    return statistics.median(times) * 1e3


def median(measure: Callable[[str], float]) -> float:
    """The median of several rounds, each on a database of its own."""
    values: list[float] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            values.append(measure(f"sqlite://{folder}/bench.db"))
    return statistics.median(values)


def of_slots() -> dict[str, float]:
    """What slots cost that break, or whose processes are replaced."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        slots.prepare(Path(folder))
        # Where children find their handlers.
        os.chdir(folder)
        try:
            return slots.measure(Path(folder))
        finally:
            os.chdir(before)


def main() -> None:
    """Measures, and prints."""
    program, wheel = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        array_s, array_mb = array_result(f"sqlite://{folder}/bench.db")
    numbers = {
        "jobs_per_s": round(median(throughput)),
        "python_overhead_us": round(
            (median(python_worker) - median(lambda url: rust_worker(url, program))) / JOBS * 1e6, 1
        ),
        "map_per_s": round(median(mapped)),
        "post_p50_ms": round(median(round_trips), 2),
        "import_ms": round(import_time(), 1),
        "array_s": round(array_s, 2),
        "array_mb": round(array_mb),
        "wheel_mb": round(Path(wheel).stat().st_size / 1e6, 1),
        **of_slots(),
    }
    names = {
        "jobs_per_s": "no-op jobs a second, submit_many, one worker process",
        "python_overhead_us": "per job over the Rust worker, in microseconds",
        "map_per_s": "100,000 no-op jobs by client.map, a second",
        "post_p50_ms": "post, round trip of a no-op, median, in milliseconds",
        "import_ms": "import haulage, median, in milliseconds",
        "array_s": "a numpy array of 50 MB as a result, in seconds",
        "array_mb": "the most memory of that worker, in MiB",
        "quarantine_throughput": "7 GPUs and one that fails each job, of 7 alone",
        "quarantine_failures": "failed attempts that counted because of it",
        "replacement_gap_ms": "slot empty while its child is replaced, in milliseconds",
        "wheel_mb": "the wheel, in megabytes" + ("" if haulage.HAS_AWS else ", without AWS"),
    }
    for name, value in numbers.items():
        print(f"{names[name]:<56}{value:>10}")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()

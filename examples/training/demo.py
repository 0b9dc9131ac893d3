"""Trains a network as one long job, on a machine that is taken away every few seconds.

`make demo-python` runs it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import haulage
import numpy as np

from network import Training

HERE = Path(__file__).parent
STEPS = 20_000

# Most of the steps that may be made twice.
REPEATED = 0.05

# How long machines last, in seconds: drawn once for all runs. Where machines are taken away at any
# moment with the same probability, this is how their lives are distributed.
LIVES = [min(12.0, max(1.0, life)) for life in map(random.Random(1).expovariate, [1 / 4] * 1000)]

# One thread of arithmetic: for matrices of this size, more only wait for each other.
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def worker(url: str) -> subprocess.Popen[bytes]:
    """A worker as one starts it in a shell; a lease so short that the next one need not wait for long."""
    command = [sys.executable, "-m", "haulage", "worker", "--url", url, "--python", "tasks:train"]
    return subprocess.Popen(
        [*command, "--lease", "2s", "--until-empty"], cwd=HERE, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )


def main() -> int:
    """The demo."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite://{folder}/training.db"
        client = haulage.connect(url)
        began = time.monotonic()
        job = client.submit({"folder": folder, "steps": STEPS}, max_attempts=len(LIVES))
        kills = 0
        for life in LIVES:
            machine = worker(url)
            try:
                machine.wait(life)
                break
            except subprocess.TimeoutExpired:
                # As a machine goes: no warning, nothing is tidied up.
                machine.kill()
                machine.wait()
                kills += 1
        record = job.wait(60)
        took = time.monotonic() - began
        if record.status is not haulage.Status.SUCCESS:
            print(f"the job is {record.status}: {record.error}", file=sys.stderr)
            return 1
        result = record.result
        made = (Path(folder) / "steps").stat().st_size
        resumed, plain = Training(STEPS), Training(STEPS)
        resumed.restore(Path(folder) / result["file"])
        while plain.step < STEPS:
            plain.take_step()
        is_same = all(np.array_equal(one, other) for one, other in zip(resumed.weights, plain.weights))
        client.close()
    repeated = made / STEPS - 1
    print(f"training    {STEPS} steps as one job, {took:.0f} s")
    print(f"killed      {kills} times, with kill -9; {record.attempt} attempts")
    print(f"repeated    {made - STEPS} steps, {repeated:.1%}")
    print(f"accuracy    {result['accuracy']:.1%} of the digits of people it has not seen")
    print(f"weights     {'the same' if is_same else 'NOT the same'} as without an interruption")
    if not is_same or repeated > REPEATED or kills == 0:
        print(f"that is not as it should be: {REPEATED:.0%} at most are made twice", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

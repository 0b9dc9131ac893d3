"""Trains a network as one long job, on machines that are taken away as Spot machines of AWS were.

`make demo-python` runs it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import haulage
import numpy as np

from lives import lives
from network import Training

HERE = Path(__file__).parent
STEPS = 80_000

# Most of the steps that may be made twice.
REPEATED = 0.05

# How long a machine lasts on average, in seconds.
LIFE = 4.0

# With more than this, the training does not get on.
ATTEMPTS = 1000

# One thread of arithmetic: for matrices of this size, more only wait for each other.
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def worker(url: str) -> subprocess.Popen[bytes]:
    """A worker as one starts it in a shell; a lease so short that the next one need not wait for long, and
    heartbeats, which take checkpoints along, so often that a short life is not for nothing."""
    command = [sys.executable, "-m", "haulage", "worker", "--url", url, "--python", "tasks:train"]
    return subprocess.Popen(
        [*command, "--lease", "2s", "--heartbeat-interval", "200ms", "--until-empty"],
        cwd=HERE,
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )


def main() -> int:
    """The demo."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite://{folder}/training.db"
        client = haulage.connect(url)
        began = time.monotonic()
        job = client.submit({"folder": folder, "steps": STEPS}, max_attempts=ATTEMPTS)
        kills = 0
        # In the order of the record, and from its start again, should it end before the training does.
        for life in itertools.islice(itertools.cycle(lives(LIFE)), ATTEMPTS):
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

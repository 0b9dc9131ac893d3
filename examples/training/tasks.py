"""What the worker runs: `haulage worker --python tasks:train`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import haulage

from network import Training

# How often the weights are written down, in seconds.
EACH = 0.1


@haulage.worker
def train(body: dict[str, Any], ctx: haulage.Context) -> dict[str, Any]:
    """Trains the network; goes on from where an earlier attempt has come to."""
    folder = Path(body["folder"])
    training = Training(body["steps"])
    if ctx.last_checkpoint is not None:
        training.restore(folder / ctx.last_checkpoint["file"])
    # A file of this attempt's own: one that still runs somewhere, though its job was taken from it,
    # writes to another.
    mine = f"{ctx.job_id}-{ctx.attempt}.npz"
    # Just for the demo: a byte for each step that was ever made.
    count = os.open(folder / "steps", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    saved_at = 0.0
    while training.step < training.steps and not ctx.cancelled:
        training.take_step()
        os.write(count, b".")
        if time.monotonic() >= saved_at + EACH:
            training.save(folder / mine)
            if saved_at == 0:
                # The checkpoint says where the weights are; it takes up to a second to be on record.
                ctx.checkpoint({"file": mine})
            saved_at = time.monotonic()
            ctx.set_progress(training.step / training.steps)
    os.close(count)
    training.save(folder / mine)
    if training.step < training.steps:
        # The worker stops, or somebody has cancelled the job.
        raise haulage.Retry("stopped on the way", after=0)
    return {"file": mine, "accuracy": training.accuracy()}

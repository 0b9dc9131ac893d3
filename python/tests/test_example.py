"""The example in `example/`, without containers."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import haulage
import pytest

from support import SOON, free_port

EXAMPLE = Path(__file__).parents[2] / "example"


def run(*, sqs: int, dynamodb: int) -> subprocess.CompletedProcess[str]:
    """`make example`, with its servers on other ports than the usual ones."""
    ports = {
        "QUEUE_ENDPOINT_URL": f"http://localhost:{sqs}",
        "TABLE_ENDPOINT_URL": f"http://localhost:{dynamodb}",
    }
    command = [sys.executable, str(EXAMPLE / "run.py")]
    return subprocess.run(
        command, env={**os.environ, **ports}, capture_output=True, text=True, timeout=SOON, check=False
    )


def test_the_example_runs_on_local_servers_and_on_a_file() -> None:
    done = run(sqs=free_port(), dynamodb=free_port())
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.startswith("with ")] == ["with local.env:", "with embedded.env:"]
    assert said.count("result: {'words': 4}") == 2


def test_training_that_goes_on_ends_with_the_weights_of_training_that_was_not_interrupted(
    client: haulage.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE.parent / "examples" / "training"))
    network, tasks = importlib.import_module("network"), importlib.import_module("tasks")
    # Other tests have modules of these names.
    for name in ("network", "tasks"):
        request.addfinalizer(lambda name=name: sys.modules.pop(name))  # type: ignore[misc]
    whole = network.Training(60)
    taken = 0

    class Interrupted(network.Training):  # type: ignore[misc, name-defined]
        def take_step(self) -> None:
            nonlocal taken
            taken += 1
            if taken == 40:
                raise OSError("the machine is gone")
            super().take_step()

    monkeypatch.setattr(tasks, "Training", Interrupted)
    monkeypatch.setattr(tasks, "EACH", 0)
    job = client.submit({"folder": str(tmp_path), "steps": 60})
    haulage.Worker(tasks.train, client, until_empty=True, retry_base=0).run()
    result = job.result()
    while whole.step < 60:
        whole.take_step()
    resumed = network.Training(60)
    resumed.restore(tmp_path / result["file"])
    assert (tmp_path / "steps").stat().st_size == 60, "none was made twice"
    assert job.record().attempt == 2
    assert all((one == other).all() for one, other in zip(resumed.weights, whole.weights))
    assert result["accuracy"] == whole.accuracy()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(sqs=free_port(), dynamodb=port)
    assert done.returncode == 1
    assert done.stderr == (
        f"example: port {port} is taken; stop what listens there, or change the port in local.env\n"
    )

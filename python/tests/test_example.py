"""The example in `example/`, without containers."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import haulage
import pytest

from support import SOON, free_port, line, running

EXAMPLE = Path(__file__).parents[2] / "example"


# As of a terminal in which no virtual environment is active.
BARE = {**os.environ, "PATH": os.defpath}


def run(
    *, sqs: object, dynamodb: object, folder: Path = EXAMPLE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`make example`, with its servers on other ports than the usual ones."""
    ports = {
        "QUEUE_ENDPOINT_URL": f"http://localhost:{sqs}",
        "TABLE_ENDPOINT_URL": f"http://localhost:{dynamodb}",
    }
    return subprocess.run(
        [sys.executable, str(folder / "run.py")],
        env={**BARE, **ports, **environment},
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )


def run_part(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One of its programs, in the folder of the example."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=EXAMPLE,
        env={**BARE, **environment},
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_example_runs_on_local_servers_and_on_a_file_and_leaves_nothing(tmp_path: Path) -> None:
    before = names_in(EXAMPLE)
    done = run(sqs=free_port(), dynamodb=free_port(), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.startswith("with ")] == ["with local.env:", "with embedded.env:"]
    assert said.count("result: {'words': 4}") == 2
    assert names_in(EXAMPLE) == before
    assert names_in(tmp_path) == set()


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


@pytest.mark.parametrize("missing", ["local.env", "embedded.env"])
def test_a_file_of_settings_that_is_missing_is_told(tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(missing))
    done = run(sqs=free_port(), dynamodb=free_port(), folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"example: {missing} is missing in {folder}; bring it back: git checkout {folder / missing}\n"
    )


def test_local_servers_that_are_not_installed_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder)
    done = run(sqs=free_port(), dynamodb=free_port(), folder=folder)
    program = tmp_path / ".tools" / "ministack" / "bin" / "ministack"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"example: {program} is missing; install it: make tools\n"


@pytest.mark.parametrize("port", ["", "many"])
def test_an_address_without_a_port_is_told(port: str) -> None:
    done = run(sqs=port, dynamodb=free_port())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"example: QUEUE_ENDPOINT_URL is 'http://localhost:{port}'; "
        "local.env needs an address with a port, as http://localhost:9324\n"
    )


def test_servers_that_are_not_there_are_told_in_a_sentence() -> None:
    nowhere = {"DOTENV_FILE": "local.env", "QUEUE_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    for command in (
        ["create.py"],
        ["send_message.py"],
        ["-m", "uvicorn", "app:app", "--port", "0", "--log-level", "warning"],
    ):
        done = run_part(*command, **nowhere)
        assert done.returncode != 0
        first, *more = done.stderr.splitlines()
        assert "example" in first and "cannot be reached" in first, done.stderr
        assert more in ([], ["ERROR:    Application startup failed. Exiting."])


def test_what_the_message_is_asked_wrongly_is_told_in_a_sentence(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/jobs.db"
    settings = {"DOTENV_FILE": "embedded.env", "HAULAGE_URL": url}
    done = run_part("send_message.py", "--status", "nope", **settings)
    assert (done.returncode, done.stderr) == (1, "error: there is no record nope\n")
    done = run_part("send_message.py", "--timeout", "0.01", **settings)
    id_ = done.stdout.splitlines()[0].removeprefix("id: ")
    assert (done.returncode, done.stderr) == (
        1,
        f"error: {id_} has no result after 0.01 s; it goes on, and can be waited for again\n",
    )
    done = run_part("send_message.py", **settings, SHUTDOWN_GRACE_PERIOD="long")
    assert (done.returncode, done.stderr) == (
        1,
        "SHUTDOWN_GRACE_PERIOD is 'long'; give seconds, such as 30\n",
    )


def test_a_wait_that_is_interrupted_ends_without_a_word(tmp_path: Path) -> None:
    settings = {"DOTENV_FILE": "embedded.env", "HAULAGE_URL": f"sqlite://{tmp_path}/jobs.db"}
    with running(
        sys.executable,
        "send_message.py",
        cwd=EXAMPLE,
        env={**BARE, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert line(program).startswith("id: ")
        program.send_signal(signal.SIGINT)
        said, errors = program.communicate(timeout=SOON)
    assert (program.returncode, said, errors) == (130, "", "")

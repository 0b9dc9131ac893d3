"""The command line of the program, which is built into the package."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import haulage
import pytest

from support import SOON, Program, ended, starting, until

# Leaves a process behind that would outlive it, tells its id, and waits.
LEAVES = "sleep 1000 & echo $! >child; wait"


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Program]:
    """Starts commands."""
    with starting(tmp_path, sys.executable, "-m", "haulage", "--url", url) as start:
        yield start


@pytest.fixture
def run(start: Program) -> Callable[..., str]:
    """What a command that succeeds writes to stdout."""

    def run(*words: str) -> str:
        process = start(*words)
        output, errors = process.communicate(timeout=SOON)
        assert process.returncode == 0, errors
        return output

    return run


def test_a_job_goes_all_the_way_by_the_command_line(run: Callable[..., str]) -> None:
    job = run("submit", '{"a": [1]}').strip()
    assert "SUBMITTED" in run("status", job)
    run("worker", "--until-empty", "--exec", "cat")
    assert json.loads(run("result", job)) == {"a": [1]}
    assert json.loads(run("--json", "stats"))["success"] == 1
    assert run("--version") == f"haulage {haulage.__version__}\n"


def test_mistakes_have_the_exit_codes_of_the_program(start: Program, client: haulage.Client) -> None:
    client.submit(1)
    for words, code, why in (
        (["submit", "{"], 2, "JSON"),
        (["result", "nobody"], 3, "nobody"),
        (["stats", "--watch=no"], 2, "--help"),
        (["nonsense"], 2, "unrecognized subcommand 'nonsense'"),
    ):
        process = start(*words)
        _, errors = process.communicate(timeout=SOON)
        assert process.returncode == code and errors.startswith("haulage: ") and why in errors, errors
    process = start("--json", "result", "nobody")
    _, errors = process.communicate(timeout=SOON)
    assert json.loads(errors)["error"]["exit_code"] == process.returncode == 3


def test_ctrl_c_ends_a_command_at_once(start: Program, client: haulage.Client) -> None:
    process = start("wait", "--json", client.submit(1).id)
    # It waits once it has opened the database.
    until(lambda: b".db" in b"".join(names(process.pid)))
    process.send_signal(signal.SIGINT)
    assert process.wait(SOON) == -signal.SIGINT
    assert process.stderr is not None and "KeyboardInterrupt" not in process.stderr.read()


def names(process: int) -> list[bytes]:
    """The names of the files that it has open."""
    found = []
    # Some may be closed meanwhile.
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(bytes(file)))
    return found


def test_nobody_has_to_read_to_the_end(run: Callable[..., str], start: Program) -> None:
    run("submit", "1")
    process = start("list")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(SOON) == 0
    assert process.stderr is not None and process.stderr.read() == ""


def test_ctrl_c_stops_a_worker_politely(start: Program, client: haulage.Client, tmp_path: Path) -> None:
    worker = start("worker", "--shell", "touch begun; until [ -e go ]; do sleep 0.01; done; echo 1")
    job = client.submit(None)
    until((tmp_path / "begun").exists)
    worker.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    _, errors = worker.communicate(timeout=SOON)
    assert worker.returncode == 0 and "worker stopped: 1 succeeded" in errors
    assert job.result(0) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_what_a_job_has_started_ends_with_a_worker_that_is_killed(
    start: Program, client: haulage.Client, tmp_path: Path
) -> None:
    worker = start("worker", "--shell", LEAVES)
    client.submit(1)
    child = tmp_path / "child"
    until(lambda: child.exists() and child.read_text().endswith("\n"))
    worker.kill()
    until(lambda: ended(int(child.read_text())))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_program_ignores_no_signal_that_python_ignores(start: Program, client: haulage.Client) -> None:
    start("worker", "--shell", """awk '/SigIgn/ { printf "\\"%s\\"", $2 }' /proc/self/status""")
    ignored = int(client.submit(1).result(SOON), 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        assert not ignored & 1 << number - 1


def test_variables_and_flags_go_before_what_the_function_says(
    start: Program, client: haulage.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks.py").write_text(
        "import haulage, threading\n"
        "@haulage.worker(concurrency=2, max_batch_size=2, batch_timeout=5)\n"
        "def sizes(bodies):\n"
        "    return [len(bodies)] * len(bodies)\n"
    )
    jobs = client.submit_many([1, 2])
    monkeypatch.setenv("HAULAGE_PYTHON", "tasks:sizes")
    worker = start("worker", "--max-jobs", "2")
    assert [job.result(SOON) for job in jobs] == [2, 2]
    assert worker.wait(SOON) == 0
    monkeypatch.setenv("HAULAGE_MAX_BATCH_SIZE", "1")
    jobs = client.submit_many([1, 2])
    start("worker", "--concurrency", "1", "--max-jobs", "2")
    assert [job.result(SOON) for job in jobs] == [1, 1]


def test_completions_are_answered(tmp_path: Path) -> None:
    script = subprocess.run(
        [sys.executable, "-m", "haulage", "completions", "bash"], capture_output=True, text=True, check=True
    )
    assert "_HAULAGE_COMPLETE" in script.stdout
    answer = subprocess.run(
        [sys.executable, "-m", "haulage", "--", "haulage", "sta"],
        env={**os.environ, "_HAULAGE_COMPLETE": "bash", "_CLAP_COMPLETE_INDEX": "1"},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert answer.stdout.split() == ["status", "stats"]

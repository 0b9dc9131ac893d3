"""Child processes that are replaced for what they hold of their GPU's memory."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import haulage
import pytest
from haulage import InvalidArgumentError
from haulage._worker import device_memory
from haulage._worker.device_memory import DeviceMemory

from support import running, tool, until

GIB = 1 << 30

# Each process says in a file of its own what it holds, in MiB, as the driver would.
TASKS = """
import os
from pathlib import Path

held = 0

def hold(size):
    global held
    held = max(held, size)
    # The tool may read it at any time, and then sees all of it.
    written = Path(f"next-{os.getpid()}")
    written.write_text(f"{os.getpid()}, {held}\\n")
    written.rename(f"holds-{os.getpid()}")
    return os.getpid()
"""


def driver(folder: Path, lines: str) -> None:
    """The driver's tool, asked who holds what. It counts how often that was."""
    tool(folder, "nvidia-smi", f'case "$1" in --query-gpu=*) echo 0; exit;; esac; {lines}\necho >> asked')


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the module `memory_tasks`; the tool may be asked after each call."""
    (tmp_path / "memory_tasks.py").write_text(TASKS)
    driver(tmp_path, "cat holds-*")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(device_memory, "EACH", 0.0)
    return tmp_path


@pytest.fixture
def sleeper() -> Iterator[tuple[int, int]]:
    """A process with a group of its own, and one that it has started."""
    with running(
        *("sh", "-c", "sleep 600 & echo $!; wait"), stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        os.killpg(process.pid, 9)


def asked(folder: Path) -> int:
    counted = folder / "asked"
    return len(counted.read_text()) if counted.exists() else 0


def test_a_child_that_holds_too_much_of_its_gpu_is_replaced_and_the_log_says_why(
    client: haulage.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "haulage.processes")
    with haulage.Worker("memory_tasks:hold", client, gpus="0", max_device_memory_per_child=GIB):
        first = {client.submit(1000).result() for _ in range(5)}
        assert len(first) == 1
        assert client.submit(2000).result() in first
        until(lambda: client.submit(1000).result() not in first)
    assert (
        "slot 0, GPU 0: its process is replaced once another has loaded: it holds 2000 MiB of its GPU's "
        "memory, and may hold 1024 MiB" in caplog.text
    )
    assert "has no effect" not in caplog.text


def test_what_a_child_has_started_counts_with_it(folder: Path, sleeper: tuple[int, int]) -> None:
    child, started = sleeper
    (folder / "holds-both").write_text(f"{child}, 600\n1, 5000\n{started}, 600\n")
    memory = DeviceMemory(GIB)
    assert memory.excess(child) is None, "the first answer comes later"
    until(lambda: memory.excess(child) == 1200 << 20)


def test_what_a_child_holds_only_while_a_call_runs_is_not_too_much(
    folder: Path, sleeper: tuple[int, int]
) -> None:
    child, _ = sleeper
    holds = folder / "holds-it"
    holds.write_text(f"{child}, 5000\n")
    memory = DeviceMemory(GIB)
    assert memory.excess(child) is None
    until(lambda: asked(folder) == 1)
    holds.write_text(f"{child}, 1000\n")

    def goes_on() -> bool:
        assert memory.excess(child) is None
        return asked(folder) >= 3

    until(goes_on)


def test_the_tool_is_asked_every_few_seconds_at_most(
    folder: Path, sleeper: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_memory, "EACH", 600.0)
    child, started = sleeper
    (folder / "holds-it").write_text(f"{child}, 10\n")
    memory = DeviceMemory(GIB)
    assert memory.excess(child) is None
    until(lambda: asked(folder) == 1)
    for _ in range(1000):
        assert memory.excess(child) is memory.excess(started) is None
    assert asked(folder) == 1


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (None, "nvidia-smi cannot be run (No such file or directory)"),
        ("exit 9", "nvidia-smi ends with code 9"),
        ("exec sleep 600", "nvidia-smi takes longer than 0.2 s"),
        (
            "echo '1, 5000'",
            "nvidia-smi names none of the worker's processes: they have not used their GPUs yet",
        ),
        (
            'for held in holds-*; do echo "${held#holds-}, [N/A]"; done',
            "nvidia-smi does not say how much memory a process holds (it prints [N/A])",
        ),
    ],
)
def test_where_it_cannot_be_told_jobs_go_on_and_the_log_says_so_once(
    client: haulage.Client,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    lines: str | None,
    why: str,
) -> None:
    if lines is None:
        (folder / "nvidia-smi").unlink()
        monkeypatch.setenv("PATH", str(folder))
    else:
        driver(folder, lines)
    if lines == "exec sleep 600":
        monkeypatch.setattr(device_memory, "LIMIT", 0.2)
    with haulage.Worker("memory_tasks:hold", client, gpus="0", max_device_memory_per_child=GIB):
        pids = {client.submit(5000).result() for _ in range(3)}
        until(lambda: why in caplog.text)
        pids |= {client.submit(5000).result() for _ in range(10)}
    assert len(pids) == 1
    assert caplog.text.count("max_device_memory_per_child has no effect as long as nvidia-smi") == 1


def test_it_goes_with_gpus(url: str, client: haulage.Client, folder: Path) -> None:
    why = "max_device_memory_per_child goes with gpus, and there are none"
    with pytest.raises(InvalidArgumentError, match=why):
        haulage.Worker("memory_tasks:hold", client, max_device_memory_per_child=GIB).run()
    command = [sys.executable, "-m", "haulage", "worker", "--url", url, "--python", "memory_tasks:hold"]
    done = subprocess.run(
        [*command, "--processes", "1", "--max-device-memory-per-child", "70GiB"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and why in done.stderr

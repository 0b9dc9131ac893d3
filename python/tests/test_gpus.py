"""Workers that know their GPUs: devices that are pinned, processes that are replaced, slots that break."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import haulage
import pytest
from haulage import InvalidArgumentError, Status, WorkerBroken
from haulage._haulage import gpu_devices

from support import until

TASKS = r"""
import json, os, sys, threading, time
import haulage

seen = {name: os.environ.get(name) for name in
        ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HAULAGE_GPU", "HAULAGE_SLOT")}

def where(body):
    time.sleep(body or 0)
    return seen

def pid(body):
    return os.getpid()

def hold(size):
    pid.held = bytearray(size)
    return os.getpid()

def broken(body):
    # A file stands for the state of the device.
    if os.path.exists("broken-" + str(seen["HAULAGE_GPU"])):
        raise RuntimeError("CUDA error: device lost")
    time.sleep(body or 0)
    return seen["HAULAGE_GPU"]

def fails_there(body):
    if seen["HAULAGE_GPU"] == "3":
        time.sleep(0.01)
        raise OSError("nothing works here")
    time.sleep(0.02)
    return seen["HAULAGE_GPU"]

def poison(body, ctx):
    if body == "poison":
        raise haulage.WorkerBroken("this job breaks what it runs on")
    return body

def says_so(body):
    raise haulage.WorkerBroken("the tensor cores are gone")

def slow_to_load():
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the module `gpu_tasks`, on a machine without GPUs."""
    (tmp_path / "gpu_tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("nvidia-smi", "rocm-smi"):
        tool(tmp_path, name, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def worker(client: haulage.Client, target: str, **options: Any) -> haulage.Worker:
    given: dict[str, Any] = {"retry_base": 0, **options}
    return haulage.Worker(f"gpu_tasks:{target}", client, **given)


def tool(folder: Path, name: str, lines: str) -> tuple[str, ...]:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return (str(path),)


def test_each_slot_sees_one_gpu_before_it_imports_anything(client: haulage.Client) -> None:
    jobs = client.submit_many([0.3] * 4)
    with worker(client, "where", gpus="0,2", slots_per_gpu=2):
        seen = [job.result() for job in jobs]
    assert {(one["HAULAGE_SLOT"], one["HAULAGE_GPU"]) for one in seen} == {
        ("0", "0"),
        ("1", "2"),
        ("2", "0"),
        ("3", "2"),
    }
    slots = {f"slot {one['HAULAGE_SLOT']}, GPU {one['HAULAGE_GPU']}" for one in seen}
    assert {job.record().slot for job in jobs} == slots
    for one in seen:
        assert one["CUDA_VISIBLE_DEVICES"] == one["HIP_VISIBLE_DEVICES"] == one["HAULAGE_GPU"]
        assert one["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "HAULAGE_GPU" not in os.environ


def test_all_gpus_are_those_that_the_drivers_tool_names_or_that_are_left_to_the_worker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(folder, "nvidia-smi", "printf '0\\n1\\n3\\n'")
    assert gpu_devices("all") == ["0", "1", "3"]
    assert gpu_devices("3, 0") == ["3", "0"]
    with pytest.raises(InvalidArgumentError, match="gpus: there is no GPU 2 here; there are 0, 1, 3"):
        gpu_devices("2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")
    assert gpu_devices("all") == ["1", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"]


@pytest.mark.parametrize(
    ("gpus", "why"),
    [
        ("all", r"gpus: no GPU was found \(rocm-smi failed: .*\); name those that there are, as in 0,1"),
        ([0, 1, 0], "gpus: GPU 0 is named twice in 0,1,0; for several slots on each, give the number of"),
        ("0;1", "gpus: `0;1` is not a GPU; give all, or numbers such as 0,2"),
        ([], "gpus: no GPU is named; give all, or numbers such as 0,2"),
    ],
)
def test_gpus_that_cannot_be_meant_are_refused(client: haulage.Client, gpus: Any, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        worker(client, "where", gpus=gpus).start()


def test_options_that_do_not_go_together_are_refused(client: haulage.Client) -> None:
    with pytest.raises(InvalidArgumentError, match="give processes, or gpus with slots_per_gpu"):
        worker(client, "where", gpus="0", processes=2)
    with pytest.raises(InvalidArgumentError, match="health_check goes with processes or gpus"):
        worker(client, "where", health_check="true").run()


def test_a_child_is_replaced_after_its_jobs_by_one_that_has_loaded_meanwhile(client: haulage.Client) -> None:
    jobs = client.submit_many([0] * 6)
    with worker(client, "pid", processes=1, max_jobs_per_child=2):
        pids = [job.result() for job in jobs]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] == pids[5]


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of others is read from /proc")
def test_a_child_that_has_grown_is_replaced(client: haulage.Client) -> None:
    with worker(client, "hold", processes=1, max_memory_per_child=150_000_000):
        small = {client.submit(1).result() for _ in range(3)}
        assert len(small) == 1
        grown = client.submit(300_000_000).result()
        assert grown in small
        until(lambda: client.submit(1).result() not in small)


def test_a_child_that_loads_for_too_long_is_ended(client: haulage.Client) -> None:
    slow = worker(client, "pid", processes=1, on_start="gpu_tasks:slow_to_load", child_timeout=0.2)
    with pytest.raises(
        haulage.ProcessError, match=r"took longer than 0\.2 s, and was ended, while it loaded"
    ):
        slow.run()


def test_a_gpu_that_is_lost_takes_no_jobs_until_its_health_check_says_that_it_is_back(
    client: haulage.Client, folder: Path
) -> None:
    (folder / "broken-1").touch()
    (check,) = tool(folder, "check", 'test ! -e "broken-$HAULAGE_GPU" || { echo "GPU is lost" >&2; exit 1; }')
    jobs = client.submit_many([0.02] * 40, max_attempts=1)
    options: dict[str, Any] = {"gpus": "0,1", "health_check": check}
    with worker(client, "broken", **options):
        assert {job.result() for job in jobs} == {"0"}
        records = [job.record() for job in jobs]
        assert all(record.status is Status.SUCCESS for record in records)
        (folder / "broken-1").unlink()
        until(lambda: "1" in {job.result() for job in client.submit_many([0.05] * 4)})


def test_a_slot_that_fails_each_job_costs_no_job_its_attempts(client: haulage.Client) -> None:
    jobs = client.submit_many([0] * 300)
    one = worker(client, "fails_there", gpus="0,1,2,3")
    one.start()
    assert "3" not in {job.result() for job in jobs}
    summary = one.stop()
    assert summary is not None
    assert (summary["failed"], summary["succeeded"]) == (0, 300)
    assert summary["retried"] <= 2, "from the third on, they do not count"


def test_a_job_that_breaks_one_child_after_the_other_is_at_fault_itself(client: haulage.Client) -> None:
    poison = client.submit("poison", max_attempts=1)
    others = client.submit_many(["fine"] * 10)
    with worker(client, "poison", gpus="0,1"):
        with pytest.raises(haulage.JobFailedError, match="this job breaks what it runs on"):
            poison.result()
        assert {job.result() for job in others} == {"fine"}


def test_a_worker_without_a_slot_that_works_ends_with_a_code_of_its_own(url: str, folder: Path) -> None:
    client = haulage.connect(url)
    # One that breaks two children is at fault itself.
    jobs = client.submit_many([0, 1], max_attempts=1)
    command = [sys.executable, "-m", "haulage", "worker", "--url", url, "--python", "gpu_tasks:says_so"]
    for more in ([], ["--gpus", "0", "--quarantine-limit", "1ms", "--health-check", "false"]):
        done = subprocess.run([*command, *more], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 75, done.stderr
        assert "haulage: the worker is broken, and ends; run it elsewhere: " in done.stderr
        assert {job.status() for job in jobs} == {Status.SUBMITTED}, "it is not the jobs' fault"
    with pytest.raises(WorkerBroken, match="the tensor cores are gone"):
        haulage.Worker("gpu_tasks:says_so", client).run()


def test_a_slot_that_is_out_is_told_to_whoever_asks_the_worker(client: haulage.Client, folder: Path) -> None:
    (folder / "broken-0").touch()
    (folder / "broken-1").touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    jobs = client.submit_many([0] * 8, max_attempts=1)
    with worker(client, "broken", gpus="0,1", health_check="false", http_listen=address):
        until(lambda: 'haulage_slots_quarantined{store="jobs.db"} 2\n' in page(address, "/metrics"))
        until(lambda: "CUDA error: device lost" in page(address, "/ready"))
    assert {job.record().status for job in jobs} == {Status.SUBMITTED}


def page(address: str, path: str) -> str:
    try:
        with urlopen(f"http://{address}{path}") as answer:
            return bytes(answer.read()).decode()
    except HTTPError as error:
        return error.read().decode()


def test_a_replacement_costs_the_queue_no_load(client: haulage.Client, folder: Path) -> None:
    # It takes a second to load, and each job takes longer, by what a slow machine needs for a process.
    (folder / "slow.py").write_text(
        "import time\ntime.sleep(1)\ndef work(body):\n    began = time.time()\n    time.sleep(2.5)\n"
        "    return began, time.time()\n"
    )
    jobs = client.submit_many([0] * 5)
    with haulage.Worker("slow:work", client, processes=1, max_jobs_per_child=1):
        times = [job.result() for job in jobs]
    # If it loaded after that, no gap would be shorter than the load.
    gaps = sorted(after[0] - before[1] for before, after in zip(times, times[1:]))
    assert gaps[len(gaps) // 2] < 1, "the next child loads while the last one works"

"""Workers that know their GPUs: devices that are pinned, processes that are replaced, slots that break."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import haulage
import pytest
from haulage import InvalidArgumentError, Status, WorkerBroken
from haulage._haulage import gpu_devices
from haulage._worker.process import ChildProcess

from support import SOON, free_port, running, tool, until

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

def last_of_eight_fails(body):
    if seen["HAULAGE_GPU"] == "7":
        time.sleep(0.01)
        raise OSError("nothing works here")
    time.sleep(body)

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


def test_a_gpu_without_room_for_two_loads_the_next_child_after_the_last_one(
    client: haulage.Client, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The lock is the room; the second job waits until the next child has found none.
    (folder / "large.py").write_text(
        "import fcntl, os, time\n"
        "room = open('room', 'w')\n"
        "try:\n    fcntl.flock(room, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError:\n    open('full', 'w').close()\n    raise\n"
        "def work(waits):\n"
        "    while waits and not os.path.exists('full'):\n        time.sleep(0.01)\n"
        "    return os.getpid()\n"
    )
    end = ChildProcess.end

    def slow(child: ChildProcess, until: float) -> None:
        if child.calls:
            # A driver takes its time to free what a process had.
            time.sleep(1)
        end(child, until)

    monkeypatch.setattr(ChildProcess, "end", slow)
    jobs = client.submit_many([False, True, False, False], max_attempts=1)
    with haulage.Worker("large:work", client, gpus="0", max_jobs_per_child=2):
        pids = [job.result() for job in jobs]
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert "a child process could not be replaced while it worked: " in caplog.text
    assert "a child process could not be replaced: " not in caplog.text
    assert {job.record().uncounted for job in jobs} == {0}


def test_a_child_that_loads_for_too_long_is_ended(client: haulage.Client) -> None:
    slow = worker(client, "pid", processes=1, on_start="gpu_tasks:slow_to_load", child_timeout=0.2)
    with pytest.raises(
        haulage.ProcessError,
        match=r"had not loaded the handler after 0\.2 s, and was ended; allow more by child_timeout \(",
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


def test_a_slot_that_fails_each_job_costs_no_job_an_attempt(client: haulage.Client) -> None:
    jobs = client.submit_many([0] * 300, max_attempts=1)
    one = worker(client, "fails_there", gpus="0,1,2,3")
    one.start()
    assert "3" not in {job.result() for job in jobs}
    summary = one.stop()
    assert summary is not None
    assert (summary["failed"], summary["retried"], summary["succeeded"]) == (0, 0, 300)
    assert client.stats()["dead"] == 0


def test_one_gpu_of_eight_that_fails_each_job_leaves_the_others_their_throughput(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At the same time as seven that work. Whatever else the machine does slows both, though not always
    equally: so there are a few times, of which one has to show it."""

    def started(
        target: str, gpus: str
    ) -> tuple[haulage.Client, list[haulage.JobHandle[Any]], haulage.Worker]:
        client = haulage.connect(f"{url.removesuffix('.db')}-{target}.db")
        jobs = client.submit_many([0.1] * 3000, max_attempts=1)
        one = worker(client, target, gpus=gpus)
        one.start()
        until(lambda: client.stats()["success"] > 0)
        return client, jobs, one

    both = [started("where", "0,1,2,3,4,5,6"), started("last_of_eight_fails", "0,1,2,3,4,5,6,7")]

    def done() -> list[int]:
        return [int(client.stats()["success"]) for client, _, _ in both]

    shares: list[float] = []
    while max(shares, default=0.0) < 0.95 and len(shares) < 6:
        before = done()
        time.sleep(4)
        seven, eight = (after - earlier for after, earlier in zip(done(), before))
        shares.append(eight / seven)
    put_back = sum(job.record().uncounted for job in both[1][1])
    for _, _, one in both:
        one.stop_now()
        summary = one.stop()
        assert summary is not None
        assert (summary["failed"], summary["retried"]) == (0, 0)
    # Three before it is out of service, and one each time that it is tried again.
    assert put_back <= 3 + caplog.text.count("takes jobs again")
    assert max(shares) >= 0.95, shares


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
    address = f"127.0.0.1:{free_port()}"
    jobs = client.submit_many([0] * 8, max_attempts=1)
    with worker(client, "broken", gpus="0,1", health_check="false", http_listen=address):
        until(lambda: 'haulage_slots_quarantined{store="jobs.db"} 2\n' in page(address, "/metrics"))
        until(lambda: "CUDA error: device lost" in page(address, "/ready"))
    assert {job.record().status for job in jobs} == {Status.SUBMITTED}


def test_a_delay_that_the_handler_asks_for_holds_in_a_slot_that_has_not_worked_yet(
    client: haulage.Client, folder: Path
) -> None:
    (folder / "limited.py").write_text(
        "import haulage\ndef work(body):\n    raise haulage.Retry('rate limited', after=3600)\n"
    )
    job = client.submit(1)
    with haulage.Worker("limited:work", client, gpus="0,1"):
        until(lambda: job.record().error is not None)
    record = job.record()
    assert (record.attempt, record.uncounted) == (1, 0), "the attempt counts"
    assert str(record.error) == "rate limited"
    assert record.due_at is not None
    assert (record.due_at - record.submitted_at).total_seconds() >= 3600


def test_metrics_and_log_lines_of_jobs_name_the_slot(url: str, folder: Path) -> None:
    client = haulage.connect(url)
    (folder / "logs.py").write_text(
        "import logging\ndef work(body):\n"
        "    logging.getLogger('mine').warning('it runs')\n    return 1 / body\n"
    )
    fine, broken = client.submit(1), client.submit(0, max_attempts=1)
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "haulage", "worker", "--url", url, "--python", "logs:work"]
    options = ["--gpus", "7", "--log-format", "json", "--http-listen", address]
    with running(*command, *options, cwd=folder, stderr=subprocess.PIPE) as one:
        assert fine.result(SOON) == 1
        with pytest.raises(haulage.JobFailedError):
            broken.result(SOON)
        labels = 'store="jobs.db",slot="slot 0, GPU 7"'
        until(lambda: f'haulage_slot_jobs_total{{{labels},outcome="error"}} 1\n' in page(address, "/metrics"))
        metrics = page(address, "/metrics")
        assert f'haulage_slot_jobs_total{{{labels},outcome="success"}} 1\n' in metrics
        assert f"haulage_slot_out_of_service{{{labels}}} 0\n" in metrics
        one.terminate()
        assert one.stderr is not None
        said = one.stderr.read()
    lines = [json.loads(line) for line in said.splitlines()]
    slots = {(line.get("job_id"), line["target"]): line.get("slot") for line in lines}
    assert slots[fine.id, "mine"] == slots[broken.id, "mine"] == "slot 0, GPU 7"
    assert slots[broken.id, "haulage.consumer"] == "slot 0, GPU 7"


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
    gaps = [after[0] - before[1] for before, after in zip(times, times[1:])]
    assert min(gaps) < 1, "the next child loads while the last one works"

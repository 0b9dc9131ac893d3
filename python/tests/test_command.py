"""The command `haulage worker`, and its child processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import haulage
import pytest
from haulage import Status

from support import SOON, Program, ended, starting, until

TASKS = """
import ctypes, logging, os, signal, subprocess, sys, threading, time
import haulage

loads = open("loads", "a")
loads.write(f"{os.getpid()}\\n")
loads.close()

def double(body, message_id):
    return body * 2

def queue(body, ctx):
    return ctx.queue

def pid(body):
    return os.getpid()

def thread(body):
    return threading.current_thread().name

def act(body, ctx):
    if body == "segfault":
        ctypes.string_at(0)
    if body == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if body == "exit":
        os._exit(7)
    if body == "raise":
        raise ValueError("broken")
    if body == "fail":
        raise haulage.Fail("never")
    if body == "nan":
        return float("nan")
    if body == "progress":
        ctx.set_progress(0.5, "half")
        return ctx.wait_cancelled(30)
    if body == "hang":
        open("hangs", "w").close()
        time.sleep(60)
    if body == "cancelled":
        ctx.set_progress(0.1)
        if ctx.wait_cancelled(30):
            raise haulage.Cancelled
    return [ctx.attempt, ctx.job_id, os.getpid()]

@haulage.worker(max_batch_size=3, batch_timeout=5, retry_base=0)
def batch(bodies):
    return [body + len(bodies) for body in bodies]

def chatter(body):
    for n in range(body):
        print("printed", n)
        logging.getLogger("tasks").warning("logged %d", n)
    return body

async def async_chatter(body):
    return chatter(body)

@haulage.worker(max_batch_size=3)
def batch_chatter(bodies):
    return [chatter(body) for body in bodies]

def flood(body):
    for _ in range(body):
        print("x" * 4095)
    return body

def forge(body):
    metric = '{"_aws":{"Timestamp":1},"Namespace":"Haulage"}'
    print("working on x\\n" + metric + "\\x1b[2J")
    print(metric, file=sys.stderr)
    logging.getLogger("tasks").warning("working on x\\n" + metric + "\\x1b[2J")
    os.system("echo '" + metric + "'")
    raise ValueError("x\\n" + metric)

def leave_behind(body):
    subprocess.run(["sh", "-c", "sleep 1000 & echo $! >child; wait"])

async def later(body):
    import asyncio
    await asyncio.sleep(0)
    return body + 1

def start():
    open("started", "a").write(f"{os.getpid()}\\n")

value = 3
"""


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Program]:
    """Starts workers."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "broken.py").write_text("import nothing_like_this\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    words = ("worker", "--url", url, "--retry-base", "0")
    with starting(tmp_path, sys.executable, "-m", "haulage", *words) as start:
        yield start


def stopped(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=SOON)
    return process.returncode, output, errors


@pytest.mark.parametrize("more", [(), ("--processes", "1")])
def test_it_serves_the_queues_that_it_names(
    start: Program, client: haulage.Client, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = client.submit(1, queue="bulk"), client.submit(2)
    worker = start("--python", "tasks:queue", "--queue", "first", "--queue", "bulk", *more)
    assert job.result(SOON) == "bulk"
    assert other.status() is Status.SUBMITTED
    assert stopped(worker)[0] == 0
    monkeypatch.setenv("HAULAGE_QUEUE", "first=1,default=2")
    start("--python", "tasks:queue", *more)
    assert other.result(SOON) == "default"
    process = start("--python", "tasks:queue", "--queue", "a,b=1", *more)
    assert "some queues have a weight and some have none" in process.communicate(timeout=SOON)[1]


def test_it_runs_a_function_and_says_what_it_did(start: Program, client: haulage.Client) -> None:
    process = start("--python", "tasks:double", "--json")
    assert list(client.map([1, 2, 3], wait_timeout=SOON)) == [2, 4, 6]
    code, output, _ = stopped(process)
    assert (code, json.loads(output)["succeeded"]) == (0, 3)


def test_it_ends_though_nobody_reads_what_it_did(start: Program, client: haulage.Client) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    process = start("--python", "tasks:double", "--json", stdout=write)
    client.submit(1).result(SOON)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SOON) == 1
    assert "haulage: nobody has read from stdout for 5 s" in process.communicate()[1]
    os.close(read)
    os.close(write)


def test_it_ends_well_where_who_reads_has_seen_enough(start: Program, client: haulage.Client) -> None:
    read, write = os.pipe()
    os.close(read)
    client.submit(1)
    process = start("--python", "tasks:double", "--json", "--until-empty", stdout=write)
    os.close(write)
    assert process.wait(SOON) == 0
    assert "Traceback" not in process.communicate()[1]


def test_a_log_that_nobody_reads_holds_up_neither_jobs_nor_signals(
    start: Program, client: haulage.Client
) -> None:
    read, write = os.pipe()
    for more in ([], ["--processes", "1"]):
        process = start("--python", "tasks:flood", *more, stderr=write)
        # More than the pipe holds, and the queue behind it.
        assert client.submit(3000).result(SOON) == 3000
        assert client.submit(1).result(SOON) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("more", [(), ("--processes", "1")], ids=["threads", "processes"])
def test_a_handler_forges_no_metric_and_no_line_of_the_log(
    start: Program, client: haulage.Client, form: str, more: tuple[str, ...]
) -> None:
    metrics = ("--cluster-name", "c", "--service-name", "s")
    process = start("--python", "tasks:forge", "--log-format", form, *metrics, *more)
    client.submit(1, max_attempts=1).wait(SOON)
    code, output, errors = stopped(process)
    assert code == 0
    for line in output.splitlines():
        assert json.loads(line)["ClusterName"] == "c"
    assert errors.count("_aws") >= 5 and "\x1b" not in errors
    for line in errors.splitlines():
        if form == "json":
            assert "_aws" not in json.loads(line)
        else:
            assert not line.lstrip().startswith("{")
            assert line.startswith(("20", "  | ", "haulage: worker stopped"))


@pytest.mark.parametrize("function", ["chatter", "async_chatter", "batch_chatter"])
@pytest.mark.parametrize("more", [(), ("--processes", "1")], ids=["threads", "processes"])
def test_a_job_that_prints_without_end_drowns_no_other(
    start: Program, client: haulage.Client, function: str, more: tuple[str, ...]
) -> None:
    process = start("--python", f"tasks:{function}", "--log-limit", "2kB", *more)
    job = client.submit(5000)
    assert job.result(SOON) == 5000
    assert client.submit(3).result(SOON) == 3
    code, _, errors = stopped(process)
    assert code == 0
    # A line counts for 100 characters: some twenty of the first job, and all of the second.
    for word in ("printed", "logged"):
        lines = re.findall(rf"{word} (\d+)(?: job_id=.*)?$", errors, re.MULTILINE)
        assert lines.count("2") == 2 and 9 < len(lines) < 14
    assert re.search(
        rf"{job.id}: 99\d\d lines of \d+ characters more were not logged, by --log-limit", errors
    )


def test_a_terminal_that_goes_away_is_a_polite_signal(start: Program, client: haulage.Client) -> None:
    process = start("--python", "tasks:double")
    client.submit(1).result(SOON)
    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=SOON)
    assert process.returncode == 0 and "1 succeeded" in errors


def test_modules_of_the_folder_stand_in_for_nothing(
    start: Program, client: haulage.Client, tmp_path: Path
) -> None:
    for name in ("json", "argparse", "queue"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
    for more in ([], ["--processes", "1"]):
        process = start("--python", "tasks:double", *more)
        assert client.submit(2).result(SOON) == 4
        assert stopped(process)[0] == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("end", ["killed", "timeout"])
def test_what_a_handler_has_started_ends_with_its_process(
    start: Program, client: haulage.Client, tmp_path: Path, end: str
) -> None:
    process = start("--python", "tasks:leave_behind", "--processes", "1", "--cancel-grace-period", "0.1")
    # The handler has begun by then, also where the machine is slow.
    limit = 5.0 if end == "timeout" else None
    client.submit(1, timeout=limit, max_attempts=1)
    child = tmp_path / "child"
    until(lambda: child.exists() and child.read_text().endswith("\n"))
    if end == "killed":
        process.kill()
    until(lambda: ended(int(child.read_text())))


def test_the_module_is_loaded_once_for_all_threads(
    start: Program, client: haulage.Client, tmp_path: Path
) -> None:
    process = start("--python", "tasks:thread", "--concurrency", "3", "--on-start", "tasks:start")
    list(client.map(range(10), wait_timeout=SOON))
    assert (tmp_path / "loads").read_text() == f"{process.pid}\n" == (tmp_path / "started").read_text()
    assert "haulage: worker stopped: 10 succeeded" in stopped(process)[2]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("tasks:", "'tasks:' names no function; write it as package.module:function"),
        ("tasks", "tasks defines no tasks, functions under @haulage.task; name a function of it, as in"),
        ("nope.tasks:f", "there is no module nope; it was looked for in"),
        ("nope", "there is no module nope; it was looked for in"),
        ("broken:f", "broken imports nothing_like_this, and there is no such module"),
        ("raises:f", "ZeroDivisionError: division by zero"),
        ("tasks:doubel", "tasks has no doubel; did you mean double?"),
        ("tasks:value", "tasks:value is of type int, and neither a function nor tasks"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--processes", "2")], ids=["threads", "processes"])
def test_a_bad_path_is_explained(start: Program, target: str, why: str, more: tuple[str, ...]) -> None:
    process = start("--python", target, *more)
    output, errors = process.communicate(timeout=SOON)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith("haulage: ") and why in errors


def test_logs_are_text_or_json(start: Program, client: haulage.Client) -> None:
    process = start("--python", "tasks:act", "--log", "info,haulage=warning", "--log-format", "json")
    job = client.submit("fail")
    job.wait(SOON)
    _, _, errors = stopped(process)
    lines = [json.loads(text) for text in errors.splitlines()]
    assert [(line["level"], line["target"]) for line in lines] == [
        ("WARNING", "haulage.consumer"),
        ("INFO", "haulage"),
    ]
    assert (lines[1]["message"], lines[1]["failed"]) == ("worker stopped: 1 failed", 1)
    assert job.id in lines[0]["message"] and "never" in lines[0]["message"]


def test_bad_flags_are_explained(start: Program) -> None:
    for arguments, why in (
        (("--python", "tasks:double", "--lease", "soon"), "write it like 90s, 5m, 1h30m or 2d"),
        (("--python", "tasks:double", "--concurrency", "many"), "invalid value 'many' for '--concurrency"),
        (("--python", "tasks:double", "--concurrency", "0"), "concurrency"),
        (("--python", "tasks:double", "--log", "loud"), "no log level loud"),
        (("--python", "tasks:double", "--processes", "2", "--concurrency", "2"), "but not both"),
        (("--python", "tasks:double", "--exec", "cat"), "cannot be used with"),
        (("--python", "tasks:double", "--memory-limit", "1GiB"), "go with --exec and --shell"),
        (("--python", "tasks:double", "--http-ready", "/ping"), "--http-ready goes with --http"),
        ((), "give one of --exec COMMAND"),
    ):
        process = start(*arguments)
        _, errors = process.communicate(timeout=SOON)
        assert why in errors and process.returncode == 2, (arguments, errors)


def test_processes_share_the_work_and_load_once_each(
    start: Program, client: haulage.Client, tmp_path: Path
) -> None:
    process = start("--python", "tasks:act", "--processes", "2", "--on-start", "tasks:start")
    results = list(client.map(range(40), wait_timeout=SOON))
    pids = {result[2] for result in results}
    loads = {int(pid) for pid in (tmp_path / "loads").read_text().split()}
    assert pids <= loads and len(loads) == 2 and process.pid not in loads
    assert loads == {int(pid) for pid in (tmp_path / "started").read_text().split()}
    code, _, errors = stopped(process)
    assert code == 0 and "40 succeeded" in errors
    for pid in loads:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("segfault", "the process that ran the job died of SIGSEGV"),
        ("kill", "died of SIGKILL, perhaps for want of memory"),
        ("exit", "exited with code 7"),
    ],
)
def test_a_child_that_dies_fails_its_attempt_and_takes_nobody_with_it(
    start: Program, client: haulage.Client, body: str, why: str
) -> None:
    # A lease so long that nothing here can be the work of its end.
    start("--python", "tasks:act", "--processes", "2", "--lease", "1h")
    bad = client.submit(body, max_attempts=2)
    good = client.submit_many(["fine"] * 20)
    record = bad.wait(SOON)
    assert (record.status, record.attempt, record.dead) == (Status.ERROR, 2, True)
    assert record.error is not None and why in record.error
    assert {record.attempt for record in client.wait(good, SOON)} == {1}
    assert client.submit("after").result(SOON)[0] == 1


def test_exceptions_in_children_are_like_those_in_threads(start: Program, client: haulage.Client) -> None:
    start("--python", "tasks:act", "--processes", "1")
    raised = client.submit("raise", max_attempts=2).wait(SOON)
    assert raised.error is not None and raised.error.startswith("ValueError: broken")
    assert "in act" in raised.error and raised.attempt == 2
    failed = client.submit("fail").wait(SOON)
    assert (failed.error, failed.attempt) == ("never", 1)
    nan = client.submit("nan").wait(SOON)
    assert nan.error_kind == "invalid_result" and nan.error is not None and "NaN" in nan.error


def test_progress_and_cancel_reach_through(start: Program, client: haulage.Client) -> None:
    start("--python", "tasks:act", "--processes", "1")
    job = client.submit("progress")
    until(lambda: job.progress() is not None)
    assert job.progress() == haulage.Progress(0.5, "half")
    job.cancel()
    assert job.result(SOON) is True
    job = client.submit("cancelled")
    until(lambda: job.progress() is not None)
    job.cancel()
    assert job.wait(SOON).status is Status.CANCELLED


def test_a_handler_that_does_not_stop_is_ended_and_its_process_replaced(
    start: Program, client: haulage.Client
) -> None:
    start("--python", "tasks:act", "--processes", "1", "--cancel-grace-period", "0.1")
    job = client.submit("hang", timeout=0.3, max_attempts=1)
    record = job.wait(SOON)
    assert (record.status, record.error_kind) == (Status.ERROR, "timeout")
    assert client.submit("next").result(SOON)[0] == 1


def test_options_of_the_decorator_hold_in_processes_and_batches_go_through(
    start: Program, client: haulage.Client
) -> None:
    start("--python", "tasks:batch", "--processes", "1")
    assert list(client.map([0, 10, 20], wait_timeout=SOON)) == [3, 13, 23]


def test_async_functions_run_in_processes(start: Program, client: haulage.Client) -> None:
    start("--python", "tasks:later", "--processes", "1")
    assert list(client.map([1, 2], wait_timeout=SOON)) == [2, 3]


def test_children_end_with_a_parent_that_is_killed(
    start: Program, client: haulage.Client, tmp_path: Path
) -> None:
    process = start("--python", "tasks:act", "--processes", "1", "--lease", "1")
    job = client.submit("hang")
    until((tmp_path / "hangs").exists)
    (child,) = (int(pid) for pid in (tmp_path / "loads").read_text().split())
    process.kill()
    process.wait(SOON)
    until(lambda: ended(child))
    with haulage.Worker(lambda body, ctx: ctx.attempt, client):
        assert job.result(SOON) == 2


def test_ctrl_c_in_a_terminal_reaches_all_and_ends_well(
    start: Program, client: haulage.Client, tmp_path: Path
) -> None:
    process = start("--python", "tasks:act", "--processes", "2")
    job = client.submit("progress")
    until(lambda: job.progress() is not None)
    children = [int(pid) for pid in (tmp_path / "loads").read_text().split()]
    for pid in [*children, process.pid]:
        os.kill(pid, signal.SIGINT)
    threading.Timer(0.2, job.cancel).start()
    _, errors = process.communicate(timeout=SOON)
    assert "1 succeeded" in errors and process.returncode == 0


def test_processes_from_a_program(
    client: haulage.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    with haulage.Worker("tasks:double", client, processes=1):
        assert client.submit(4).result(SOON) == 8

    def local(body: object) -> None: ...

    with pytest.raises(haulage.InvalidArgumentError, match="put it at the top of a module"):
        haulage.Worker(local, client, processes=1)

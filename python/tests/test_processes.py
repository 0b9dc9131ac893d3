"""Child processes: what goes wrong in one, or around it, costs one attempt at most."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import haulage
import pytest
from haulage import Status, __main__
from haulage._worker import frames, process, processes

from support import SOON, entry, running, until

TASKS = r"""
import atexit, json, logging, os, signal, subprocess, sys, threading, time
from decimal import Decimal
import haulage

contexts = []

def act(body, ctx):
    if body == "pid":
        return os.getpid()
    if body == "number":
        ctx.set_progress(0.5, 42)
    if body == "surrogate":
        ctx.set_progress(0.5, "caf\udce9")
    if body == "decimal" and ctx.attempt == 1:
        raise haulage.Retry("no GPU is free", after=Decimal("0.01"))
    if body == "file name":
        raise haulage.Fail("bad file caf\udce9.png")
    if body == "exit":
        sys.exit(3)
    if body == "grandchild":
        read, write = os.pipe()
        if os.fork() == 0:
            # Holds everything that it has inherited, until the test is over.
            os.setsid()
            open("grandchild", "w").write(str(os.getpid()))
            os.write(write, b"x")
            signal.pause()
        os.read(read, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    if body == "inherited":
        return subprocess.run(
            [sys.executable, "-c", "import os; print(*os.listdir('/dev/fd'))"],
            close_fds=False, capture_output=True, text=True,
        ).stdout.split()
    if body == "checkpoint":
        if ctx.last_checkpoint == {"step": 2}:
            return ctx.last_checkpoint
        step = 0 if ctx.last_checkpoint is None else ctx.last_checkpoint["step"]
        ctx.checkpoint({"step": step + 1})
        raise haulage.Retry("on we go", after=0)
    if body == "large checkpoint":
        ctx.checkpoint("x" * 65536)
    if body == "late":
        contexts.append(ctx)
    if body == "next":
        ctx.set_progress(0.2, "of this job")
        contexts[0].set_progress(0.9, "of the other job")
        ctx.wait_cancelled(60)
    if body == "print":
        print("not yet written", end="")
        logging.getLogger("tasks").warning("logged by the child")
    if body == "die":
        os._exit(3)
    if body == "let go":
        os.closerange(3, 1000)
    return [ctx.attempt, body]

@haulage.worker(processes=2, retry_base=0, cancel_grace_period=0.1)
def decorated(body):
    return os.getpid()

@haulage.worker(queues=["bulk"], non_retryable=[ValueError])
def in_bulk(body):
    raise ValueError("no use")

@haulage.worker(processes=2)
def and_again(body):
    return threading.current_thread().name, os.getpid()

@haulage.worker(max_batch_size=2, batch_timeout=30)
def batch(bodies):
    return bodies

def flags(body):
    return [sys.flags.optimize, sys.warnoptions, json.__name__]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the module `tasks`."""
    (tmp_path / "tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def worker(client: haulage.Client, target: str = "tasks:act", **options: Any) -> haulage.Worker:
    given: dict[str, Any] = {"processes": 1, "retry_base": 0, **options}
    return haulage.Worker(target, client, **given)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("number", "TypeError: the message of a progress is 42; it is a text"),
        ("surrogate", "UnicodeEncodeError"),
        ("file name", "bad file caf?.png"),
        ("exit", "SystemExit: 3"),
    ],
)
def test_an_odd_handler_fails_its_attempt_and_keeps_its_process(
    client: haulage.Client, body: str, why: str
) -> None:
    with worker(client):
        before = client.submit("pid").result(SOON)
        record = client.submit(body, max_attempts=1).wait(SOON)
        assert record.status is Status.ERROR and record.error is not None and why in record.error
        assert client.submit("pid").result(SOON) == before


def test_a_retry_of_any_number_goes_through(client: haulage.Client) -> None:
    with worker(client):
        assert client.submit("decimal").result(SOON) == [2, "decimal"]


@pytest.mark.parametrize("target", ["tasks:act", "tasks:batch"])
def test_a_body_that_a_child_cannot_decode_ends_its_job_alone(
    client: haulage.Client, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = client.submit_many([int("7" * 4000), 1])
    monkeypatch.setenv("PYTHONINTMAXSTRDIGITS", "3000")
    with worker(client, target):
        bad, good = client.wait(jobs, SOON)
    assert (bad.status, bad.error_kind, bad.attempt) == (Status.ERROR, "invalid_body", 1)
    assert bad.error is not None and "the body cannot be decoded: ValueError" in bad.error
    assert good.result in (1, [1, 1])


def test_the_queues_and_errors_of_the_decorator_hold_for_processes(client: haulage.Client) -> None:
    with worker(client, "tasks:in_bulk"):
        record = client.submit(1, queue="bulk").wait(SOON)
    assert (record.status, record.attempt) == (Status.ERROR, 1)


def test_a_death_is_noticed_though_a_grandchild_holds_all_it_has(
    client: haulage.Client, folder: Path
) -> None:
    with worker(client, lease=3600):
        record = client.submit("grandchild", max_attempts=1).wait(SOON)
        os.kill(int((folder / "grandchild").read_text()), signal.SIGKILL)
        assert record.error is not None and "died of SIGKILL" in record.error
        assert client.submit("next one").result(SOON) == [1, "next one"]


def test_programs_that_a_handler_starts_do_not_inherit_the_line(client: haulage.Client) -> None:
    with worker(client):
        # Its own descriptor of the listing is the fourth.
        assert len(client.submit("inherited").result(SOON)) == 4


def test_a_child_that_lets_go_of_its_worker_fails_its_attempt(client: haulage.Client) -> None:
    with worker(client):
        record = client.submit("let go", max_attempts=1).wait(SOON)
        assert record.error is not None and "exited with code 0" in record.error
        assert client.submit("next one").result(SOON) == [1, "next one"]


def test_the_next_attempt_has_the_checkpoint_of_the_last(client: haulage.Client) -> None:
    with worker(client):
        assert client.submit("checkpoint").result(SOON) == {"step": 2}
        record = client.submit("large checkpoint", max_attempts=1).wait(SOON)
        assert record.error is not None and "TooLargeError" in record.error


def test_what_is_said_of_a_job_that_is_over_is_not_said_of_the_next(client: haulage.Client) -> None:
    with worker(client):
        client.submit("late").result(SOON)
        job = client.submit("next")
        until(lambda: job.progress() is not None)
        assert job.progress() == haulage.Progress(0.2, "of this job")
        job.cancel()
        assert job.result(SOON) == [1, "next"]


def test_a_wish_to_stop_that_comes_before_the_call_is_told_after_it() -> None:
    told: list[Any] = []
    ready = threading.Event()

    class Context:
        def cancellation(self) -> Any:
            return self

        def notify(self, callback: Callable[[], object]) -> bool:
            return False  # cancelled already

        def abort(self) -> None: ...

    class Child:
        def stop_job(self, call: int, index: int) -> None:
            told.append((call, index))
            ready.set()

    child: Any = Child()
    context: Any = Context()
    watch = process._Watch(child, 7, [context], SOON)
    assert told == []
    told.append("the call")
    watch.may_tell()
    assert ready.wait(SOON)
    watch.end()
    assert told == ["the call", (7, 0)]


def is_not_ready(one: haulage.Worker) -> bool:
    """Whether the worker says so of itself."""
    return one._now is not None and one._now.consumer.state == "not ready"


def test_a_child_that_cannot_be_replaced_is_started_later(client: haulage.Client, folder: Path) -> None:
    with worker(client) as running:
        (folder / "tasks.py").write_text("1 / 0\n")
        os.kill(client.submit("pid").result(SOON), signal.SIGKILL)
        job = client.submit("waits", max_attempts=1)
        until(lambda: is_not_ready(running))
        # Between one try and the next, which are a second apart and more.
        until(lambda: job.status() is Status.SUBMITTED and job.record().uncounted > 0 and children() == [])
        assert "ZeroDivisionError" in str(job.record().error)
        (folder / "tasks.py").write_text(TASKS)
        assert job.result(SOON)[1] == "waits"
        assert len(children()) == 1
    assert children() == []


def test_a_module_that_does_not_load_any_more_costs_no_job_an_attempt(
    client: haulage.Client, folder: Path
) -> None:
    with worker(client, processes=2) as running:
        sound = (folder / "tasks.py").read_text()
        (folder / "tasks.py").write_text("import weights_of_last_week")
        for job in [client.submit("die", max_attempts=1) for _ in range(2)]:
            assert "exited with code 3" in str(job.wait(SOON).error)
        jobs = client.submit_many(["a job"] * 30, max_attempts=1)
        until(lambda: is_not_ready(running))
        until(lambda: any(job.record().error is not None for job in jobs))
        records = [job.record() for job in jobs]
        assert {record.status for record in records} <= {Status.SUBMITTED, Status.IN_PROGRESS}
        assert {record.error_kind for record in records} <= {None, "released"}
        why = [record.error for record in records if record.error is not None]
        assert why and "there is no such module" in why[0]
        (folder / "tasks.py").write_text(sound)
        assert {record.status for record in client.wait(jobs, SOON)} == {Status.SUCCESS}


def test_a_process_that_dies_before_it_reads_its_job_costs_it_no_attempt(client: haulage.Client) -> None:
    with worker(client):
        first = client.submit("pid").result(SOON)
        os.kill(first, signal.SIGSTOP)
        job = client.submit("pid", max_attempts=1)
        until(lambda: job.status() is Status.IN_PROGRESS)
        os.kill(first, signal.SIGKILL)
        assert job.result(SOON) != first
        assert job.record().attempt == 1


def test_a_job_before_which_every_process_dies_has_its_attempt_counted(
    client: haulage.Client, folder: Path
) -> None:
    dies = "import os\nfrom haulage._worker import child\nchild.Child._answer = lambda *_: os._exit(3)\n"
    (folder / "tasks.py").write_text(TASKS + dies)
    with worker(client):
        record = client.submit("never begun", max_attempts=2).wait(SOON)
    assert (record.status, record.attempt) == (Status.ERROR, 2)
    assert record.error is not None and "died one after the other before they began the job" in record.error


def test_a_call_that_did_not_reach_its_process_goes_to_another(
    client: haulage.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(client):
        first = client.submit("pid").result(SOON)
        send, lost = frames.Line.send, list[Any]()

        def failing(self: Any, message: dict[str, Any], texts: list[str] | None = None) -> None:
            if "jobs" in message and not lost:
                lost.append(message)
                raise frames.Closed
            send(self, message, texts)

        monkeypatch.setattr(frames.Line, "send", failing)
        assert client.submit("pid", max_attempts=1).result(SOON) != first
        assert lost


KILLED = """
import os, signal
if not os.path.exists("loaded"):
    open("loaded", "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
def act(body):
    return body
"""


def test_a_child_that_is_killed_while_it_loads_does_not_end_a_starting_worker(
    client: haulage.Client, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "killed.py").write_text(KILLED)
    monkeypatch.setattr(processes, "_START_PAUSES", (0.0,))
    with worker(client, "killed:act"):
        assert client.submit(7).result(SOON) == 7
    # Where that never ends, the arguments are not at fault.
    (folder / "killed.py").write_text(KILLED.replace("if not os.path.exists", "if True or os.path.exists"))
    words = ["--url", client.url, "worker", "--python", "killed:act", "--processes", "1"]
    assert __main__.main(words) == __main__.FAILURE
    assert (
        "died of SIGKILL while it loaded the handler, perhaps for want of memory; give the machine more "
        "memory, or the worker fewer child processes (processes, slots_per_gpu)"
    ) in capfd.readouterr().err
    (folder / "killed.py").write_text("import os\nos._exit(3)")
    assert __main__.main(words) == __main__.FAILURE
    assert "exited with code 3 while it loaded the handler; see what it printed" in capfd.readouterr().err
    # A module that cannot be loaded is a mistake, and told at once.
    (folder / "killed.py").write_text("import weights_of_last_week")
    assert __main__.main(words) == __main__.USAGE
    assert children() == []


def test_a_start_that_fails_half_way_leaves_nothing_behind(
    client: haulage.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = subprocess.Popen, list[Any]()

    def failing(*args: Any, **options: Any) -> Any:
        if len(started) == 1:
            raise BlockingIOError("no more processes")
        started.append(start(*args, **options))
        return started[-1]

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", failing)
        patch.setattr(processes, "_START_PAUSES", (0.0,))
        # With one of two it works; what it lacks is started when it is needed.
        with worker(client, processes=2):
            assert client.submit("pid").result(SOON) == started[0].pid
        descriptors = len(os.listdir("/dev/fd"))
        # With none it does not.
        with pytest.raises(haulage.ProcessError, match="cannot be started: no more processes"):
            worker(client, processes=2).start()
    assert children() == []
    assert len(os.listdir("/dev/fd")) <= descriptors


def children() -> list[str]:
    """The children of this process that are there, zombies included."""
    entries = [entry(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [found.name for found in entries if found is not None and found.parent == os.getpid()]


def test_processes_of_the_decorator_hold(client: haulage.Client) -> None:
    with haulage.Worker("tasks:decorated", client):
        assert len(children()) == 2
        assert os.getpid() not in set(client.map(range(4), wait_timeout=SOON))
    with haulage.Worker("tasks:and_again", client, processes=1):
        assert len(children()) == 1
        assert client.submit(1).result(SOON)[1] != os.getpid()
    # Threads or processes: who says it last says which.
    for worker in (
        haulage.Worker("tasks:and_again", client, concurrency=2),
        haulage.Worker("tasks:and_again", client, processes=0),
    ):
        with worker:
            assert children() == []
            name, pid = client.submit(1).result(SOON)
            assert name.startswith("haulage-") and pid == os.getpid()
    with pytest.raises(haulage.InvalidArgumentError, match="a process runs one call at a time"):
        haulage.worker(processes=2, concurrency=2)


def test_output_and_logs_of_children_are_not_lost(folder: Path, url: str, client: haulage.Client) -> None:
    command = [sys.executable, "-m", "haulage", "worker", "--log", "warning", "--log-format", "json"]
    words = [*command, "--url", url, "--python", "tasks:act", "--processes", "1"]
    with running(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        client.submit("print").result(SOON)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=SOON)
    assert (process.returncode, output) == (0, "")
    lines = [json.loads(text) for text in errors.splitlines()]
    logged = {(line["target"], line["message"]) for line in lines}
    assert {("tasks", "logged by the child"), ("program", "not yet written")} <= logged


def test_children_are_interpreters_like_their_parent(folder: Path, url: str, client: haulage.Client) -> None:
    (folder / "signal.py").write_text("raise RuntimeError('shadows the standard library')\n")
    (folder / "run.py").write_text(
        "import sys, haulage\n"
        "sys.path.append('.')\n"
        "with haulage.Worker('tasks:flags', sys.argv[1], processes=1):\n"
        "    sys.stdin.readline()\n"
    )
    # Which has no folder of its own on the path.
    main = "import sys; sys.path.remove(''); exec(open('run.py').read())"
    words = [sys.executable, "-O", "-W", "ignore::UserWarning", "-c", main, url]
    with running(*words, stdin=subprocess.PIPE) as process:
        assert client.submit(1).result(SOON) == [1, ["ignore::UserWarning"], "json"]
        process.communicate("go\n", timeout=SOON)


GARBAGE = [
    b"\0" * 64,
    # A frame of 2^63 bytes, one of 2^40, one that is no JSON, texts without end, and none of ours.
    struct.pack(">4sQ", b"hlg1", 1 << 63),
    struct.pack(">4sQ", b"hlg1", 1 << 40) + b"x" * 100,
    struct.pack(">4sQ", b"hlg1", 2) + b"\xff\xff",
    *(
        struct.pack(">4sQ", b"hlg1", len(text)) + text
        for text in (
            b"[",
            b"[]",
            b'{"texts": 1000000000}',
            b'{"texts": -1}',
            b'{"texts": 0}',
            b'{"call": 2, "texts": 0, "answers": []}',
            b'{"call": 2, "texts": 0, "answers": [["json", null]]}',
            b'{"call": 2, "texts": 0, "answers": [["ok", 1]]}',
            b'{"call": 2, "texts": 0, "answers": [["retry", 1, null]]}',
            b'{"call": 2, "texts": 0, "answers": [[]]}',
            b'{"call": 2, "texts": 0, "answers": 7}',
            b'{"call": 2, "texts": 0, "progress": [9, 0.5, null]}',
            b'{"call": 2, "texts": 0, "progress": null}',
        )
    ),
]


def test_what_is_no_message_ends_one_process_and_one_attempt(folder: Path, client: haulage.Client) -> None:
    (folder / "garbage.py").write_text(
        "import os, stat, sys, time\n"
        "def handle(body):\n"
        "    if isinstance(body, str):\n"
        "        os.write(int(sys.argv[1]), bytes.fromhex(body))\n"
        "        time.sleep(1000)\n"
        "    return body\n"
    )
    with haulage.Worker("garbage:handle", client, processes=1, retry_base=0.0):
        # Each process has had one call before, but the first.
        for garbage in GARBAGE:
            record = client.submit(garbage.hex(), max_attempts=1).wait(SOON)
            assert (record.status, record.attempt) == (Status.ERROR, 1), garbage
            assert record.error is not None and "sent what no handler can answer" in record.error, garbage
            # Its successor is none the worse.
            assert client.submit(7, max_attempts=1).result(SOON) == 7

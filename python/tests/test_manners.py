"""Signals, the interpreter's lock, forks, and the end of the program."""

from __future__ import annotations

import importlib.metadata
import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import haulage
import pytest
from haulage import Status

from support import SOON, Program, line, until

# Says "waiting" when the main thread has stopped at some place of a wait.
TELL_OF_WAIT = """
        def tell():
            main, last = threading.main_thread().ident, None
            while True:
                frame = sys._current_frames()[main]
                code = frame.f_code
                place = (code, frame.f_lasti)
                if place == last and ("haulage" in code.co_filename or code.co_name == "select"):
                    return print("waiting", flush=True)
                last = place
                time.sleep(0.05)
"""

# Holds the lock of the interpreter for as long as it sleeps, like native code that never lets go.
HOLD = "import ctypes; hold = lambda seconds: ctypes.PyDLL(None).usleep(int(seconds * 1e6))"


@pytest.mark.parametrize(
    "wait",
    [
        "job.result()",
        "job.wait()",
        "client.wait([job])",
        "list(client.as_completed([job]))",
        "list(client.map([1]))",
        "asyncio.run(job.result_async())",
        "haulage.Worker(print, client).run(handle_signals=False)",
    ],
)
def test_ctrl_c_works_at_once_in_every_wait(program: Program, url: str, wait: str) -> None:
    process = program(
        f"""
        import asyncio, sys, threading, time, haulage
        {TELL_OF_WAIT}
        client = haulage.connect(sys.argv[1])
        job = client.submit(1, delay=3600)
        threading.Thread(target=tell).start()
        try:
            {wait}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        print(client.job(job.id).status(), flush=True)
        """,
        url,
    )
    assert line(process) == "waiting"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert line(process) == "interrupted"
    assert time.monotonic() - began < 60
    assert line(process) == "SUBMITTED"
    assert process.wait(SOON) == 0


def test_other_threads_run_while_one_waits(client: haulage.Client) -> None:
    job = client.submit(1)
    waiting = threading.Thread(target=job.wait)
    waiting.start()
    with haulage.Worker(lambda body: body, client):
        waiting.join(SOON)
    assert not waiting.is_alive()


def test_a_handler_that_holds_the_interpreter_keeps_its_lease(
    program: Program, client: haulage.Client, url: str
) -> None:
    process = program(
        f"""
        import sys, haulage
        {HOLD}
        def handler(body, ctx):
            print("started", flush=True)
            hold(7)
            return ctx.attempt
        haulage.Worker(handler, sys.argv[1], lease=2).run()
        """,
        url,
    )
    job = client.submit(1)
    assert line(process) == "started"
    # Somebody who would take the job if its lease ran out.
    with haulage.Worker(lambda body: "taken over", client):
        assert job.result(SOON) == 1
    assert job.record().attempt == 1


def test_ctrl_c_while_a_worker_stops_gives_back_what_runs(
    program: Program, client: haulage.Client, url: str
) -> None:
    process = program(
        f"""
        import sys, threading, time, haulage
        {TELL_OF_WAIT}
        started, release = threading.Event(), threading.Event()
        def handler(body):
            started.set()
            release.wait()
            return body
        worker = haulage.Worker(handler, sys.argv[1], shutdown_grace_period=3600)
        try:
            with worker:
                started.wait()
                threading.Thread(target=tell).start()
        except KeyboardInterrupt:
            print(worker.is_running, worker.stop(), flush=True)
        sys.stdin.readline()
        release.set()
        with worker:
            print(haulage.connect(sys.argv[1]).job(sys.argv[2]).result(30), flush=True)
        """,
        url,
        client.submit(7).id,
    )
    assert line(process) == "waiting"
    process.send_signal(signal.SIGINT)
    assert line(process) == "False None"
    (record,) = client.records()
    assert (record.status, record.attempt) == (Status.SUBMITTED, 1)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert line(process) == "7"
    assert process.wait(SOON) == 0


def test_a_signal_handler_that_is_not_pythons_is_replaced_by_the_default(
    client: haulage.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = signal.signal
    before = real(signal.SIGTERM, signal.SIG_IGN)

    def install(number: signal.Signals, handler: Any) -> Any:
        old = real(number, handler)
        return None if old == signal.SIG_IGN else old

    monkeypatch.setattr(signal, "signal", install)
    worker = haulage.Worker(lambda body: threading.Thread(target=worker.stop).start(), client)
    client.submit(1)
    try:
        assert worker.run()["succeeded"] == 1
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        real(signal.SIGTERM, before)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sends a signal to a thread by its number")
def test_other_signals_do_not_deafen_a_worker(program: Program, client: haulage.Client, url: str) -> None:
    process = program(
        """
        import ctypes, os, pathlib, signal, sys, haulage
        heard = []
        def handler(body):
            (thread,) = [
                int(task.name)
                for task in pathlib.Path("/proc/self/task").iterdir()
                if (task / "comm").read_text().strip() == "haulage-signals"
            ]
            assert ctypes.CDLL(None).tgkill(os.getpid(), thread, signal.SIGUSR1) == 0
            return body
        signal.signal(signal.SIGUSR1, lambda number, frame: print("heard", flush=True))
        print(haulage.Worker(handler, sys.argv[1]).run(), flush=True)
        """,
        url,
    )
    assert client.submit(1).result(SOON) == 1
    assert line(process) == "heard"
    process.send_signal(signal.SIGTERM)
    assert "'succeeded': 1" in line(process)
    assert process.wait(SOON) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_worker_stops_at_a_signal_and_finishes_what_runs(
    program: Program, client: haulage.Client, url: str, name: str
) -> None:
    process = program(
        """
        import sys, haulage
        def handler(body):
            print("started", flush=True)
            return sys.stdin.readline()
        worker = haulage.Worker(handler, sys.argv[1])
        print(worker.run(on_signal=lambda number: print(number, flush=True)), flush=True)
        """,
        url,
    )
    jobs = client.submit_many([1, 2])
    assert line(process) == "started"
    number = getattr(signal, name)
    process.send_signal(number)
    assert line(process) == str(int(number)), "heard, before what runs ends"
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert "'succeeded': 1" in line(process)
    assert process.wait(SOON) == 0
    assert [job.status() for job in jobs] == [Status.SUCCESS, Status.SUBMITTED]


def test_a_second_signal_gives_everything_back_though_the_interpreter_is_held(
    program: Program, client: haulage.Client, url: str
) -> None:
    process = program(
        f"""
        import sys, haulage
        {HOLD}
        def handler(body):
            print("started", flush=True)
            hold(600)
        haulage.Worker(handler, sys.argv[1]).run()
        """,
        url,
    )
    job = client.submit(1)
    assert line(process) == "started"
    # Two that are equal could become one on their way.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    until(lambda: job.status() is Status.SUBMITTED)
    assert job.record().attempt == 1


def test_a_worker_that_is_killed_loses_its_lease_and_the_job_is_run_again(
    program: Program, client: haulage.Client, url: str
) -> None:
    process = program(
        """
        import os, sys, haulage
        haulage.Worker(lambda body: os.kill(os.getpid(), 9), sys.argv[1], lease=0.5).run()
        """,
        url,
    )
    job = client.submit(1)
    assert process.wait(SOON) == -signal.SIGKILL
    with haulage.Worker(lambda body, ctx: ctx.attempt, client):
        assert job.result(SOON) == 2


def test_the_end_of_the_program_gives_jobs_back(program: Program, client: haulage.Client, url: str) -> None:
    process = program(
        """
        import sys, threading, haulage
        started = threading.Event()
        def handler(body):
            started.set()
            threading.Event().wait()
        haulage.Worker(handler, sys.argv[1], concurrency=2).start()
        waiting = haulage.connect(sys.argv[1]).submit(1)
        threading.Thread(target=waiting.wait, daemon=True).start()
        started.wait()
        print(waiting.id, flush=True)
        """,
        url,
    )
    job = client.job(line(process))
    output, errors = process.communicate(timeout=SOON)
    assert (process.returncode, output, errors) == (0, "", "")
    assert job.status() is Status.SUBMITTED


def test_threads_share_a_client(client: haulage.Client) -> None:
    results: list[int] = []

    def work(n: int) -> None:
        results.extend(client.map(range(n, n + 20), wait_timeout=SOON))

    with haulage.Worker(lambda body: body, client, concurrency=4):
        threads = [threading.Thread(target=work, args=(n * 20,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    assert sorted(results) == list(range(160))


def test_failures_are_logged(client: haulage.Client, caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "no such image" in record.getMessage():
                told.set()

    def handler(body: object) -> None:
        raise haulage.Fail("no such image")

    # Told after pytest's own handler, which is the root's, too.
    logger = logging.getLogger()
    listener = Handler()
    logger.addHandler(listener)
    try:
        with haulage.Worker(handler, client):
            job = client.submit(1, request_id="r-7")
            job.wait(SOON)
            assert told.wait(SOON)
    finally:
        logger.removeHandler(listener)
    (record,) = [r for r in caplog.records if "no such image" in r.getMessage()]
    assert (record.levelno, record.name) == (logging.WARNING, "haulage.consumer")
    assert f"job_id={job.id}" in record.getMessage() and "request_id=r-7" in record.getMessage()


def test_a_logging_filter_that_raises_costs_one_line(client: haulage.Client) -> None:
    told = threading.Event()

    class Handler(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            if "the first" in record.getMessage():
                raise RuntimeError("a filter with a mistake")
            if "the second" in record.getMessage():
                told.set()
            return True

    def handler(body: str) -> None:
        raise haulage.Fail(body)

    logger, listener = logging.getLogger("haulage"), Handler()
    logger.addHandler(listener)
    try:
        with haulage.Worker(handler, client):
            for body in ("the first", "the second"):
                client.submit(body).wait(SOON)
            assert told.wait(SOON)
    finally:
        logger.removeHandler(listener)


def test_importing_loads_little(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import haulage; print(*set(sys.modules) - before)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    heavy = {"asyncio", "inspect", "logging", "dataclasses", "typing", "sqlite3", "threading", "enum"}
    assert heavy.isdisjoint(loaded.stdout.split())


def test_the_package_is_typed_and_has_no_dependencies() -> None:
    files = {str(path) for path in importlib.metadata.files("haulage") or []}
    assert {"haulage/py.typed", "haulage/_haulage.pyi"} <= files
    assert all("extra ==" in what for what in importlib.metadata.requires("haulage") or []), (
        "but where they are asked for"
    )
    assert importlib.metadata.version("haulage") == haulage.__version__

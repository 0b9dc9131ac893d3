"""What a worker publishes of itself: pages over HTTP, and metrics for CloudWatch."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import haulage
import pytest
from haulage.__main__ import main

from support import SOON, Program, free_port, line, running, until


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


def get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=SOON)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def becomes(address: str, path: str, status: int, words: str) -> None:
    """Asks until the answer is this."""
    limit = time.monotonic() + SOON
    while True:
        answer = get(address, path)
        if answer[0] == status and words in answer[1]:
            return
        assert time.monotonic() < limit, answer
        time.sleep(0.005)


def test_the_pages_of_a_worker(client: haulage.Client, address: str) -> None:
    begun, go = threading.Event(), threading.Event()

    def handler(body: str) -> None:
        begun.set()
        assert go.wait(SOON)
        if body == "fail":
            raise haulage.Fail("never")

    worker = haulage.Worker(handler, client, http_listen=address, concurrency=3)
    with worker:
        becomes(address, "/ready", 200, '{"status":"ok"}')
        assert get(address, "/busy") == (200, '{"status":"idle"}\n')
        job = client.submit("fine")
        assert begun.wait(SOON)
        assert get(address, "/busy") == (503, '{"status":"busy"}\n')
        assert worker.busy == 1
        becomes(address, "/metrics", 200, 'haulage_slots_busy{store="jobs.db"} 1\n')
        go.set()
        job.result(timeout=SOON)
        with pytest.raises(haulage.JobFailedError):
            client.submit("fail").result(timeout=SOON)
        becomes(
            address,
            "/metrics",
            200,
            'haulage_jobs_total{store="jobs.db",queue="default",outcome="success"} 1\n',
        )
        becomes(
            address,
            "/metrics",
            200,
            'haulage_jobs_total{store="jobs.db",queue="default",outcome="error"} 1\n',
        )
        becomes(
            address,
            "/metrics",
            200,
            'haulage_job_duration_seconds_count{store="jobs.db",queue="default"} 2\n',
        )
        assert get(address, "/health")[0] == 200
        assert get(address, "/nothing")[0] == 404
    with pytest.raises(OSError):
        get(address, "/health")
    # The address is free again.
    with worker:
        assert get(address, "/health")[0] == 200


def test_a_handler_that_holds_the_interpreter_does_not_keep_the_pages_waiting(
    client: haulage.Client, program: Program, address: str, url: str
) -> None:
    process = program(
        f"""
        import re, sys, haulage
        def handler(body):
            print("begun", flush=True)
            # Exponential, and in C: no other thread of Python gets a turn.
            re.match(r"(a|a)*$", "a" * 40 + "b")
        haulage.Worker(handler, {url!r}, http_listen={address!r}).run()
        """
    )
    client.submit(None)
    assert line(process) == "begun"
    assert get(address, "/busy")[0] == 503
    assert get(address, "/health")[0] == 200


# A module like one that loads a model: it holds the interpreter, until told to go on.
SLOW = """
import ctypes, os
import haulage

with open("loads", "a") as loads:
    loads.write("x")

def load():
    gate = os.open("gate", os.O_RDWR)
    open("loading", "w").close()
    ctypes.PyDLL(None).read(gate, ctypes.create_string_buffer(1), 1)

if os.environ.get("LOAD") != "on start":
    load()

def double(body):
    return body * 2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "broken.py").write_text("def fail(body=None):\n    raise OSError('no such model')\n")
    os.mkfifo(tmp_path / "gate")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("how", ["flag", "variable", "processes", "on start", "program"])
def test_the_pages_are_there_while_the_handler_is_loaded(
    client: haulage.Client, folder: Path, url: str, address: str, how: str
) -> None:
    gate = os.open(folder / "gate", os.O_RDWR)
    words = [sys.executable, "-m", "haulage", "worker", "--url", url, "--python", "slow:double"]
    more: dict[str, str] = {"LOAD": how}
    if how == "variable":
        more["HAULAGE_HTTP_LISTEN"] = address
    elif how == "program":
        run = f"import haulage; haulage.Worker('slow:double', {url!r}, http_listen={address!r}).run()"
        words = [sys.executable, "-c", run]
    else:
        words += ["--http-listen", address]
    if how == "processes":
        words += ["--processes", "1"]
    if how == "on start":
        words += ["--on-start", "slow:load"]
    environment = {**os.environ, **more}
    with running(*words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            # Not by what it prints: that is logged, which takes the interpreter.
            until(lambda: (folder / "loading").exists() or process.poll() is not None)
            assert get(address, "/health") == (200, '{"status":"ok"}\n')
            assert get(address, "/ready") == (500, '{"status":"starting"}\n')
            assert get(address, "/busy") == (200, '{"status":"idle"}\n')
            becomes(address, "/metrics", 200, 'haulage_ready{store="jobs.db"} 0\n')
            os.write(gate, b"go")
            assert client.submit(21).result(timeout=SOON) == 42
            becomes(address, "/ready", 200, '{"status":"ok"}')
        finally:
            # Whoever still waits there, whatever came of the test.
            os.write(gate, b"go on")
            process.terminate()
            _, errors = process.communicate(timeout=SOON)
            os.close(gate)
    assert process.returncode == 0, errors


@pytest.mark.parametrize(
    ("target", "options", "error"),
    [
        ("nothing:like_this", {}, haulage.errors.HandlerLoadError),
        ("nothing:like_this", {"processes": 2}, haulage.errors.HandlerLoadError),
        ("broken:fail", {"on_start": "broken:fail"}, OSError),
        ("broken:fail", {"lease": 0}, haulage.InvalidArgumentError),
    ],
)
def test_a_worker_that_cannot_start_leaves_the_address(
    client: haulage.Client, folder: Path, address: str, target: str, options: Any, error: type[Exception]
) -> None:
    worker = haulage.Worker(target, client, http_listen=address, **options)
    # The exception, with all that it holds, is there when the address is taken again.
    with pytest.raises(error) as raised:
        worker.start()
    with haulage.Worker(lambda body: body, client, http_listen=address):
        assert get(address, "/health")[0] == 200
    assert raised.value is not None and not worker.is_running


@pytest.mark.parametrize("processes", [0, 2])
def test_an_address_that_is_taken_is_named_before_anything_is_loaded(
    client: haulage.Client, folder: Path, processes: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        worker = haulage.Worker("slow:double", client, http_listen=address, processes=processes)
        with pytest.raises(haulage.ConfigError, match=f"cannot listen on {address}: .*a port that is free"):
            worker.start()
    assert not (folder / "loads").exists()


def test_an_address_that_only_the_decorator_names(client: haulage.Client, folder: Path, address: str) -> None:
    for name, processes in (("inside", 0), ("beside", 1)):
        (folder / f"{name}.py").write_text(
            "import haulage\n\n"
            f"@haulage.worker(http_listen={address!r}, processes={processes})\n"
            "def double(body):\n    return body * 2\n"
        )
        with haulage.Worker(f"{name}:double", client):
            assert client.submit(21).result(timeout=SOON) == 42
            assert get(address, "/health")[0] == 200
        with haulage.Worker(f"{name}:double", client, http_listen=None), pytest.raises(OSError):
            get(address, "/health")


def test_an_address_that_is_taken_is_named(client: haulage.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        worker = haulage.Worker(lambda body: body, client, http_listen=address)
        with pytest.raises(haulage.ConfigError, match=f"cannot listen on {address}: .*a port that is free"):
            worker.start()
    assert not worker.is_running
    worker.start()
    worker.stop()


def test_the_log_says_which_port_was_free(client: haulage.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "haulage")
    with haulage.Worker(lambda body: body, client, http_listen="127.0.0.1:0"):
        limit = time.monotonic() + SOON
        while (found := re.search(r"http://(\S+) has /metrics", caplog.text)) is None:
            assert time.monotonic() < limit
            time.sleep(0.005)
        assert get(found[1], "/health")[0] == 200


def test_the_command_and_its_health(
    tmp_path: Path, client: haulage.Client, url: str, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks.py").write_text("def double(body):\n    return body * 2\n")
    command = [sys.executable, "-m", "haulage"]
    options = ["--http-listen", address, "--cluster-name", "prod", "--service-name", "worker"]
    words = [*command, "worker", "--url", url, "--python", "tasks:double", *options]
    with running(*words, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert client.submit(21).result(timeout=SOON) == 42
        everywhere = address.replace("127.0.0.1", "0.0.0.0")
        # Not in this folder, where the package is beside the one under test.
        health = [*command, "health", "--http-listen", everywhere]
        done = subprocess.run(health, cwd=tmp_path, stdout=subprocess.PIPE)
        assert (done.returncode, done.stdout) == (0, b'{"status":"ok"}\n')
        process.terminate()
        output, _ = process.communicate(timeout=SOON)
    assert process.returncode == 0
    lines = [json.loads(text) for text in output.splitlines()]
    assert sum(metrics.get("JobsSucceeded", 0) for metrics in lines) == 1
    dimensions = ("ClusterName", "ServiceName", "QueueName")
    assert [lines[-1][name] for name in dimensions] == ["prod", "worker", "default"]
    directive = lines[-1]["_aws"]["CloudWatchMetrics"][0]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Haulage", [list(dimensions)])

    capfd.readouterr()
    assert main(["health", "--http-listen", address]) == 1
    assert f"the worker at {address} is not well: " in capfd.readouterr().err
    # A database that is called like the command.
    assert main(["--url", "health", "health", "--http-listen", address]) == 1
    assert f"the worker at {address} is not well: " in capfd.readouterr().err


def test_the_names_of_cluster_and_service(
    client: haulage.Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HAULAGE_CLUSTER_NAME", "prod")
    with pytest.raises(haulage.InvalidArgumentError, match="go together"):
        haulage.Worker(lambda body: body, client).start()
    monkeypatch.setenv("HAULAGE_SERVICE_NAME", "worker")
    with haulage.Worker(lambda body: body, client, concurrency=5):
        client.submit(1).result(timeout=SOON)
    lines = [json.loads(text) for text in capfd.readouterr().out.splitlines()]
    assert sum(metrics.get("JobsSucceeded", 0) for metrics in lines) == 1
    assert {metrics["Slots"] for metrics in lines if "Slots" in metrics} == {5}
    with haulage.Worker(lambda body: body, client, cluster_name=None, service_name=None):
        client.submit(1).result(timeout=SOON)
    assert capfd.readouterr().out == ""

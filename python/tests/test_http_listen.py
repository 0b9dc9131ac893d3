"""What a worker publishes of itself: pages over HTTP, and metrics for CloudWatch."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import haulage
import pytest
from haulage.__main__ import main

from support import SOON, Program, line


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


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
        becomes(address, "/metrics", 200, 'haulage_slots_busy{queue="jobs.db"} 1\n')
        go.set()
        job.result(timeout=SOON)
        with pytest.raises(haulage.JobFailedError):
            client.submit("fail").result(timeout=SOON)
        becomes(address, "/metrics", 200, 'haulage_jobs_total{queue="jobs.db",outcome="success"} 1\n')
        becomes(address, "/metrics", 200, 'haulage_jobs_total{queue="jobs.db",outcome="error"} 1\n')
        becomes(address, "/metrics", 200, 'haulage_job_duration_seconds_count{queue="jobs.db"} 2\n')
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
    process = subprocess.Popen(
        [*command, "worker", "--url", url, "--python", "tasks:double", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.submit(21).result(timeout=SOON) == 42
        everywhere = address.replace("127.0.0.1", "0.0.0.0")
        # Not in this folder, where the package is beside the one under test.
        health = [*command, "health", "--http-listen", everywhere]
        done = subprocess.run(health, cwd=tmp_path, stdout=subprocess.PIPE)
        assert (done.returncode, done.stdout) == (0, b'{"status":"ok"}\n')
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=SOON)
    assert process.returncode == 0
    lines = [json.loads(text) for text in output.splitlines()]
    assert sum(metrics["JobsSucceeded"] for metrics in lines) == 1
    dimensions = ("ClusterName", "ServiceName", "QueueName")
    assert [lines[-1][name] for name in dimensions] == ["prod", "worker", "jobs.db"]
    directive = lines[-1]["_aws"]["CloudWatchMetrics"][0]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Haulage", [list(dimensions)])

    capfd.readouterr()
    assert main(["health", "--http-listen", address]) == 1
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
    assert sum(metrics["JobsSucceeded"] for metrics in lines) == 1
    assert lines[-1]["Slots"] == 5
    with haulage.Worker(lambda body: body, client, cluster_name=None, service_name=None):
        client.submit(1).result(timeout=SOON)
    assert capfd.readouterr().out == ""

"""The application of the compatible interface, which runs a consumer and has health pages."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import haulage
import pytest
from fastapi import FastAPI
from haulage import Consumer, DynamoDBClient, ResultStatus, Status, get_app, get_router

from support import SOON, StartConsumer, ask, line, new_producer, running

pytestmark = pytest.mark.usefixtures("haulage_url", "framework")


@pytest.fixture(params=["FastAPI", "nothing"])
def framework(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is installed beside the package."""
    if request.param == "nothing":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return str(request.param)


def test_health_pages(start_consumer: StartConsumer) -> None:
    started, release = threading.Event(), threading.Event()

    def work(body: Any, message_id: str) -> None:
        started.set()
        release.wait(SOON)

    consumer = start_consumer(work)
    app = get_app(consumer)
    for path in ("/health", "/ready", "/busy"):
        assert ask(app, path)[0] == 200
    new_producer().post_non_blocking(1)
    assert started.wait(SOON)
    assert [ask(app, path)[0] for path in ("/health", "/ready", "/busy")] == [200, 200, 503]
    release.set()
    consumer.stop_consuming()
    assert [ask(app, path) for path in ("/health", "/ready", "/busy")] == [
        (500, b'{"detail":"Consumer is not running"}'),
        (500, b'{"detail":"Consumer is not running"}'),
        (200, b'{"status":"ready"}'),
    ]
    assert ask(app, "/nope")[0] == 404
    assert ask(app, "/busy", "POST")[0] == 405


def test_a_head_is_answered_without_fastapi_too(start_consumer: StartConsumer, framework: str) -> None:
    app = get_app(start_consumer(lambda body, message_id: body))
    assert ask(app, "/busy", "HEAD")[0] == (200 if framework == "nothing" else 405)


def test_with_fastapi_it_is_an_application_of_it(start_consumer: StartConsumer, framework: str) -> None:
    consumer = start_consumer(lambda body, message_id: body)
    if framework == "nothing":
        with pytest.raises(TypeError, match="title, which are FastAPI's"):
            get_app(consumer, title="Mine")
        return
    app: Any = get_app(consumer, title="Mine")
    app.add_api_route("/more", lambda: "more")
    assert ask(app, "/more") == (200, b'"more"')
    assert app.title == "Mine" and set(app.openapi()["paths"]) == {"/health", "/ready", "/busy", "/more"}
    own = FastAPI()
    own.include_router(get_router(consumer), prefix="/consumer")
    assert ask(own, "/consumer/health") == (200, b'{"status":"healthy"}')


def test_health_pages_when_the_queue_does_not_answer(
    start_consumer: StartConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: Consumer) -> None:
        raise haulage.SQSConnectionError("it is gone")

    consumer = start_consumer(lambda body, message_id: body)
    monkeypatch.setattr(Consumer, "ping_queue", gone)
    app = get_app(consumer)
    # A job that runs must not be killed for it.
    assert ask(app, "/health") == (200, b'{"status":"healthy"}')
    assert ask(app, "/ready") == (500, b'{"detail":"Queue can\'t be reached: it is gone"}')


def live(app: Any, meanwhile: Callable[[], object]) -> list[dict[str, str]]:
    """Starts an application and stops it, as a server does; what it answered."""
    sent: list[dict[str, str]] = []

    async def receive() -> dict[str, str]:
        if not sent:
            return {"type": "lifespan.startup"}
        await asyncio.to_thread(meanwhile)
        return {"type": "lifespan.shutdown"}

    async def send(message: dict[str, str]) -> None:
        sent.append(message)

    # FastAPI raises an error as well as telling of it.
    with contextlib.suppress(haulage.ConfigError, ZeroDivisionError):
        asyncio.run(app({"type": "lifespan"}, receive, send))
    return sent


def test_the_app_starts_the_consumer_and_stops_it_when_its_job_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, stopping = threading.Event(), threading.Event()
    stop_consuming = Consumer.stop_consuming

    def stop(self: Consumer, timeout: float | None = 30) -> None:
        stopping.set()
        stop_consuming(self, timeout)

    def work(body: Any, message_id: str) -> Any:
        started.set()
        assert stopping.wait(SOON)
        return body

    monkeypatch.setattr(Consumer, "stop_consuming", stop)
    consumer = Consumer("jobs.fifo", ddb_client=DynamoDBClient("results"), compute_result=work)
    producer = new_producer()
    message_id = producer.post_non_blocking("here")

    def meanwhile() -> None:
        assert started.wait(SOON)
        assert consumer.is_running

    answers = live(get_app(consumer), meanwhile)
    assert [answer["type"] for answer in answers] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert not consumer.is_running
    assert producer.retrieve_result_status(message_id) is ResultStatus.SUCCESS


def test_the_app_gives_back_what_outlasts_the_grace_period() -> None:
    started, over = threading.Event(), threading.Event()

    def work(body: Any, message_id: str, ctx: haulage.Context | None = None) -> Any:
        assert ctx is not None
        started.set()
        ctx.wait_cancelled(SOON)
        over.set()
        raise haulage.Cancelled

    consumer = Consumer(
        "jobs.fifo", ddb_client=DynamoDBClient("results"), compute_result=work, shutdown_grace_period=0.1
    )
    producer = new_producer()
    message_id = producer.post_non_blocking(1)
    live(get_app(consumer), lambda: started.wait(SOON))
    assert over.is_set()
    assert producer.retrieve_result_status(message_id) is ResultStatus.SUBMITTED
    record = haulage.connect().record(message_id)
    assert (record.attempt, record.uncounted) == (1, 1), "the attempt does not count"


def test_the_app_tells_why_the_consumer_does_not_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HAULAGE_URL", "nowhere://")
    consumer = Consumer("q", ddb_client=DynamoDBClient("results"), compute_result=lambda body, message_id: 1)
    (answer,) = live(get_app(consumer), lambda: None)
    assert answer["type"] == "lifespan.startup.failed"
    with pytest.raises(haulage.ConfigError) as error:
        consumer.start_consuming()
    # The server writes it into its log; nothing else is said.
    assert answer["message"] == str(error.value)
    assert "nowhere" in answer["message"] and not caplog.records


def test_where_an_error_that_nobody_foresaw_came_from_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Consumer, "start_consuming", lambda self: 1 / 0)
    consumer = Consumer("q", ddb_client=DynamoDBClient("results"), compute_result=lambda body, message_id: 1)
    (answer,) = live(get_app(consumer), lambda: None)
    assert answer["type"] == "lifespan.startup.failed"
    assert "Traceback" in answer["message"] + caplog.text


# A job that ends when it is told to by a byte.
UVICORN_APP = """
import os, sys
if os.environ["FRAMEWORK"] == "nothing":
    sys.modules["fastapi"] = None       # as if it were not installed
from haulage import Consumer, DynamoDBClient, get_app

def work(body, message_id):
    print("begun", flush=True)
    os.read(0, 1)
    return body

grace = float(os.environ["GRACE"]) if "GRACE" in os.environ else None
consumer = Consumer(
    "jobs.fifo", ddb_client=DynamoDBClient("results"), compute_result=work, shutdown_grace_period=grace
)
app = get_app(consumer)
"""


@pytest.mark.parametrize("grace", [None, "0.1"], ids=["done", "given back"])
def test_a_job_in_flight_at_sigterm_under_uvicorn_ends_or_is_given_back(
    tmp_path: Path, haulage_url: str, framework: str, grace: str | None
) -> None:
    (tmp_path / "app.py").write_text(UVICORN_APP)
    job = new_producer().post_non_blocking("here")
    environment = os.environ | {"FRAMEWORK": framework} | ({} if grace is None else {"GRACE": grace})
    with running(
        *(sys.executable, "-m", "uvicorn", "app:app", "--port", "0"),
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:
        assert line(server) == "begun"
        server.send_signal(signal.SIGTERM)
        assert server.stderr is not None and server.stdin is not None
        told = iter(server.stderr.readline, "")
        assert any("Waiting for application shutdown" in text for text in told)
        if grace is None:
            server.stdin.write(".")
            server.stdin.flush()
        assert any("Application shutdown complete" in text for text in told)
        assert server.wait(SOON) == -signal.SIGTERM
    record = haulage.connect(haulage_url).record(job)
    if grace is None:
        assert (record.status, record.result) == (Status.SUCCESS, "here")
    else:
        assert (record.status, record.attempt, record.uncounted) == (Status.SUBMITTED, 1, 1)

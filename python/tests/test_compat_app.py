"""The application of the compatible interface, which runs a consumer and has health pages."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import haulage
import pytest
from fastapi import FastAPI
from haulage import Consumer, DynamoDBClient, ResultStatus, get_app, get_router

from support import SOON, StartConsumer, ask, new_producer

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
    with contextlib.suppress(haulage.ConfigError):
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


def test_the_app_tells_why_the_consumer_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULAGE_URL", "nowhere://")
    consumer = Consumer("q", ddb_client=DynamoDBClient("results"), compute_result=lambda body, message_id: 1)
    (answer,) = live(get_app(consumer), lambda: None)
    assert answer["type"] == "lifespan.startup.failed"
    assert "nowhere" in answer["message"]

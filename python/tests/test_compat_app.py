"""The application of the compatible interface, which runs a consumer and has health pages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import haulage
import pytest
from haulage import Consumer, DynamoDBClient, ResultStatus, get_app

from support import SOON, StartConsumer, new_producer

pytestmark = pytest.mark.usefixtures("haulage_url")


def ask(app: Any, path: str, method: str = "GET") -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": method, "path": path}, receive, send))
    return sent[0]["status"], sent[1]["body"]


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
    assert [ask(app, path)[0] for path in ("/health", "/ready", "/busy")] == [500, 500, 200]
    assert ask(app, "/nope")[0] == 404
    assert ask(app, "/busy", "POST")[0] == 405
    assert ask(app, "/busy", "HEAD") == (200, b"")


def test_health_pages_when_the_queue_does_not_answer(
    start_consumer: StartConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = start_consumer(lambda body, message_id: body)
    monkeypatch.setattr(Consumer, "ping_queue", lambda self: False)
    app = get_app(consumer)
    assert [ask(app, path)[0] for path in ("/health", "/ready")] == [500, 500]


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

"""The compatible interface: `Consumer`, `Producer`, `DynamoDBClient`, as docs/python.md shows it."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import haulage
import pytest
from haulage import Consumer, DynamoDBClient, Producer, Response, ResultStatus

from support import SOON, Program, StartConsumer, line, new_producer, until

pytestmark = pytest.mark.usefixtures("haulage_url")


def test_the_lines_of_the_documentation(program: Program, url: str) -> None:
    process = program(
        """
        import os, sys
        os.environ["HAULAGE_URL"] = sys.argv[1]
        from haulage import Consumer, DynamoDBClient, Producer

        def your_function(body, message_id):
            return {"double": body["number"] * 2}

        consumer = Consumer(
            queue_name="jobs.fifo",
            ddb_client=DynamoDBClient(table="results"),
            compute_result=your_function,
        )
        consumer.start_consuming()

        producer = Producer(queue_name="jobs.fifo", ddb_client=DynamoDBClient(table="results"))
        id_ = producer.post_non_blocking({"number": 4})
        print(producer.retrieve_result_status(id_) in ("submitted", "in_progress", "success"), flush=True)
        print(producer.retrieve_result(id_).result, flush=True)
        print(producer.post({"number": 5}).result, flush=True)
        """,
        url,
    )
    assert [line(process) for _ in range(3)] == ["True", "{'double': 8}", "{'double': 10}"]
    assert process.wait(SOON) == 0, "the program ends, though nobody stopped the consumer"


def test_post_returns_a_response(start_consumer: StartConsumer) -> None:
    start_consumer(lambda body, message_id: [body, message_id])
    response = new_producer().post({"number": 4}, request_id="r-1")
    assert response == Response(
        message_id=response.message_id,
        request_id="r-1",
        status=ResultStatus.SUCCESS,
        status_code=200,
        result=[{"number": 4, "request_id": "r-1"}, response.message_id],
        error=None,
    )


def test_the_handler_finds_the_request_id_in_the_body(start_consumer: StartConsumer) -> None:
    start_consumer(lambda body, message_id: body)
    body = {"number": 4}
    response = new_producer().post(message_body=body, request_id="r-1")
    assert response.result == {"number": 4, "request_id": "r-1"}
    assert body == {"number": 4}, "the caller's body stays as it is"
    without = new_producer().post(body)
    assert without.result["request_id"] == without.request_id
    assert without.request_id not in (None, without.message_id)
    assert new_producer(request_id_in_body=False).post(body).result == body
    assert new_producer().post([4]).result == [4]


def test_keys_that_are_no_text_become_text(start_consumer: StartConsumer) -> None:
    start_consumer(lambda body, message_id: {"was": body, "is": {1: "cat", None: [{True: 2.5}]}})
    result = new_producer(request_id_in_body=False).post({1: "one"}).result
    assert result == {"was": {"1": "one"}, "is": {"1": "cat", "null": [{"true": 2.5}]}}


@pytest.mark.parametrize("value", [None, 0, "", [], False, {}])
def test_falsy_results_are_results(start_consumer: StartConsumer, value: Any) -> None:
    start_consumer(lambda body, message_id: body)
    response = new_producer(request_id_in_body=False).post(value)
    assert (response.status, response.result, response.error) == ("success", value, None)
    client = DynamoDBClient("results")
    assert client.result_exists(response.message_id)
    assert client.result_get(response.message_id) == value


def test_post_does_not_raise_when_the_job_failed(start_consumer: StartConsumer) -> None:
    def broken(body: Any, message_id: str) -> None:
        raise ValueError("no such model")

    start_consumer(broken, non_retryable_errors=[ValueError])
    producer = new_producer()
    response = producer.post(1)
    assert (response.status, response.status_code, response.result) == (ResultStatus.ERROR, 500, None)
    assert isinstance(response.error, haulage.ResultErrorStatusError)
    assert "no such model" in str(response.error)
    assert "no such model" in str(producer.retrieve_result(response.message_id).error)
    with pytest.raises(haulage.ResultErrorStatusError, match="no such model"):
        DynamoDBClient("results").result_get(response.message_id)


def test_post_does_not_raise_when_it_takes_too_long() -> None:
    producer = new_producer()
    producer.timeout_seconds = 0.01
    response = producer.post(1, "r-2")
    assert (response.status, response.status_code, response.request_id) == ("error", 500, "r-2")
    assert isinstance(response.error, haulage.AwaitingResultTimeoutError)
    assert isinstance(response.error, TimeoutError)
    assert str(response.error) == (
        f"{response.message_id} has no result after 0.01 s; it goes on, and can be waited for again"
    )
    assert producer.retrieve_result_status(response.message_id) is ResultStatus.SUBMITTED
    assert producer.retrieve_result(response.message_id).request_id == "r-2"


def test_defaults_are_the_known_ones() -> None:
    producer = new_producer()
    assert (producer.timeout_seconds, producer.poll_time_seconds) == (300, 1)
    consumer = Consumer("q", ddb_client=DynamoDBClient("t"), compute_result=lambda body, message_id: 1)
    assert consumer.queue_wait_time_seconds == 1
    assert consumer.in_progress_ttl_seconds == 600
    assert consumer.heartbeat_visibility_timeout == 30
    assert consumer.heartbeat_interval == 10
    assert consumer.non_retryable_errors == ()


def test_unknown_ids_raise() -> None:
    producer, client = new_producer(), DynamoDBClient(table_name="results")
    for call in (
        producer.retrieve_result_status,
        producer.retrieve_result,
        client.item_get,
        client.status_get,
        client.result_get,
    ):
        with pytest.raises(haulage.KeyNotFoundError) as missing:
            call("nope")
        assert isinstance(missing.value, (haulage.DDBError, haulage.BaseError))
    assert not client.item_exists("nope") and not client.result_exists("nope")
    with pytest.raises(haulage.AwaitingResultTimeoutError) as late:
        client.result_poll("nope", timeout_seconds=0.05, poll_time_seconds=0.01)
    assert str(late.value) == "nope has no result after 0.05 s: there is no record nope"


def test_records_of_jobs_are_items(start_consumer: StartConsumer) -> None:
    producer, client = new_producer(), DynamoDBClient("results")
    waiting = producer.post_non_blocking(1, "r-3")
    item = client.item_get(waiting)
    assert (item.message_id, item.status, item.request_id) == (waiting, "submitted", "r-3")
    assert (item.result, item.error, item.expiration, item.is_expired()) == (None, None, None, False)
    assert item.updated_at.tzinfo is not None
    with pytest.raises(haulage.ResultInProgressStatusError, match="it is submitted"):
        client.result_get(waiting)
    with pytest.raises(haulage.AwaitingResultTimeoutError):
        client.result_poll(waiting, timeout_seconds=0.01, poll_time_seconds=0.001)
    started, release = threading.Event(), threading.Event()

    def work(body: int, message_id: str) -> int:
        started.set()
        release.wait(SOON)
        return body + 1

    start_consumer(work)
    assert started.wait(SOON)
    assert client.status_get(waiting) is ResultStatus.IN_PROGRESS
    with pytest.raises(haulage.ResultInProgressStatusError):
        client.result_get(waiting)
    release.set()
    assert client.result_poll(waiting, timeout_seconds=SOON) == 2
    assert client.result_poll(waiting, return_request_id=True) == (2, "r-3")
    assert client.result_get(waiting, return_request_id=True) == (2, "r-3")
    item = client.item_get(waiting)
    assert (item.status, item.result) == (ResultStatus.SUCCESS, 2)
    assert item.expiration is not None and not item.is_expired()
    with pytest.raises(haulage.DDBError, match="its consumer alone"):
        client.result_put(message_id=waiting, result=3)


def test_the_usual_loop_of_a_reader(start_consumer: StartConsumer) -> None:
    client, producer = DynamoDBClient("results"), new_producer()
    message_id = producer.post_non_blocking(20)

    def result() -> bool:
        try:
            return bool(client.result_get(message_id) == 21)
        except (haulage.KeyNotFoundError, haulage.ResultInProgressStatusError):
            return False

    assert not result()
    start_consumer(lambda body, message_id: body + 1)
    until(result)
    assert producer.retrieve_result_status(message_id) == "success"
    assert producer.retrieve_result(message_id).result == 21


def test_an_expired_record_is_an_error(url: str, start_consumer: StartConsumer) -> None:
    job = haulage.connect(url).submit(1, result_ttl=0.01)
    start_consumer(lambda body, message_id: body)
    producer = new_producer()
    # Of a job that has succeeded.
    until(lambda: producer.retrieve_result_status(job.id) is ResultStatus.ERROR)
    with pytest.raises(haulage.ExpiredItemError):
        producer.ddb_client.item_get(job.id)


def test_a_cancelled_job_is_an_error(start_consumer: StartConsumer, url: str) -> None:
    producer = new_producer()
    message_id = producer.post_non_blocking(1)
    haulage.connect(url).job(message_id).cancel()
    assert producer.retrieve_result_status(message_id) is ResultStatus.ERROR
    assert "cancelled" in str(producer.retrieve_result(message_id).error)


def test_errors_are_retried_unless_they_are_listed(start_consumer: StartConsumer) -> None:
    calls: list[str] = []

    def flaky(body: str, message_id: str) -> int:
        calls.append(body)
        if body == "final":
            raise KeyError(body)
        if calls.count(body) < 2:
            raise OSError("try again")
        return calls.count(body)

    consumer = start_consumer(flaky)
    assert new_producer().post("twice").result == 2
    consumer.non_retryable_errors = (KeyError,)
    assert new_producer().post("final").status == "error"
    assert calls.count("final") == 1
    with pytest.raises(ValueError, match="not an exception class"):
        consumer.non_retryable_errors = ["KeyError"]  # type: ignore[list-item]  # pyright: ignore[reportAttributeAccessIssue]


def test_compute_result_must_take_two_arguments(start_consumer: StartConsumer) -> None:
    def one(body: Any) -> None: ...

    def three(body: Any, message_id: str, more: Any) -> None: ...

    for function in (one, three, None):
        with pytest.raises(ValueError, match="compute_result"):
            start_consumer(function)  # pyright: ignore[reportArgumentType]
    consumer = start_consumer(lambda body, message_id: "before")
    assert new_producer().post(1).result == "before"
    consumer.compute_result = lambda *args: "after"
    assert new_producer().post(1).result == "after"
    with pytest.raises(ValueError, match="compute_result"):
        consumer.compute_result = one


def test_the_function_may_be_async_or_take_the_context(start_consumer: StartConsumer) -> None:
    async def work(body: int, message_id: str, ctx: haulage.Context | None = None) -> Any:
        await asyncio.sleep(0)
        return [body, ctx is not None and ctx.attempt]

    start_consumer(work)
    assert new_producer().post(3).result == [3, 1]


def test_start_and_stop(start_consumer: StartConsumer) -> None:
    consumer = start_consumer(lambda body, message_id: body)
    assert consumer.is_running and not consumer.is_processing_message
    assert consumer.ping_queue() == new_producer().ping_queue() == "pong"
    with pytest.raises(haulage.ConsumerAlreadyConsumingError) as twice:
        consumer.start_consuming()
    assert isinstance(twice.value, haulage.ConsumerError)
    consumer.stop_consuming()
    consumer.stop_consuming()
    assert not consumer.is_running
    consumer.start_consuming()
    assert new_producer().post(1).result == 1


def test_stop_says_when_it_takes_too_long(start_consumer: StartConsumer) -> None:
    started, release = threading.Event(), threading.Event()

    def work(body: Any, message_id: str) -> None:
        started.set()
        release.wait(SOON)

    consumer = start_consumer(work)
    message_id = new_producer().post_non_blocking(1)
    assert started.wait(SOON) and consumer.is_processing_message
    with pytest.raises(haulage.ConsumerStopTimeoutError) as late:
        consumer.stop_consuming(timeout=0.05)
    assert isinstance(late.value, TimeoutError) and isinstance(late.value, RuntimeError)
    release.set()
    consumer.stop_consuming()
    assert new_producer().retrieve_result_status(message_id) is ResultStatus.SUCCESS


def test_a_queue_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("HAULAGE_URL", f"sqlite://{tmp_path}/no/such/folder.db")
    with pytest.raises(haulage.SQSConnectionError, match="cannot find the folder"):
        new_producer().ping_queue()


def test_a_handler_can_fail_a_job_for_good(start_consumer: StartConsumer) -> None:
    calls: list[Any] = []

    def work(body: Any, message_id: str) -> None:
        calls.append(body)
        raise haulage.ConsumerUnretryableError("of no use")

    start_consumer(work)
    assert "of no use" in str(new_producer().post(1).error)
    assert calls == [1]


def test_an_object_with_an_async_call(start_consumer: StartConsumer) -> None:
    class Doubler:
        async def __call__(self, body: int, message_id: str) -> int:
            await asyncio.sleep(0)
            return body * 2

    start_consumer(Doubler())
    assert new_producer().post(4).result == 8


def test_a_delay_is_of_the_call_and_not_of_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    done, waited = threading.Event(), []
    consumer = Consumer(
        "jobs.fifo", ddb_client=DynamoDBClient("results"), compute_result=lambda body, message_id: done.set()
    )
    new_producer().post_non_blocking(1)

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        assert done.wait(SOON), "it consumes while the call waits"

    monkeypatch.setattr("haulage._compat.consumer.time.sleep", sleep)
    consumer.start_consuming(delay_seconds=0.5)
    consumer.stop_consuming()
    assert waited == [0.5]


@pytest.mark.parametrize(
    ("mode", "groups"),
    [(None, [None, None]), ("global", ["global"] * 2), ("request", ["a", "b"])],
)
def test_group_modes(url: str, mode: Any, groups: list[str | None]) -> None:
    producer = new_producer(message_group_id_mode=mode)
    ids = [producer.post_non_blocking(1, request_id) for request_id in ("a", "b")]
    client = haulage.connect(url)
    assert [client.record(message_id).group for message_id in ids] == groups


def test_the_group_of_a_producer_is_its_own(url: str) -> None:
    client = haulage.connect(url)
    producers = [new_producer(message_group_id_mode="producer") for _ in range(2)]
    groups = [client.record(p.post_non_blocking(1)).group for p in producers for _ in range(2)]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    with pytest.raises(ValueError, match="'global', 'producer' or 'request'"):
        new_producer(message_group_id_mode="all")


def test_queues_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("HAULAGE_URL", f"sqlite://{tmp_path}/{{queue}}-{{table}}.db")
    ddb = DynamoDBClient("results")
    with pytest.raises(haulage.ConfigError, match="Producer or a Consumer first"):
        ddb.item_exists("x")
    message_id = Producer("a.fifo", ddb_client=ddb).post_non_blocking(1)
    assert ddb.item_exists(message_id)
    assert (tmp_path / "a.fifo-results.db").exists()
    other = Producer("b.fifo", ddb_client=DynamoDBClient("results"))
    with pytest.raises(haulage.KeyNotFoundError):
        other.retrieve_result_status(message_id)


def test_protection_has_the_settings_it_had_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAULAGE_URL")

    def url(**options: Any) -> str:
        consumer = Consumer(
            "q",
            ddb_client=DynamoDBClient("t"),
            compute_result=lambda body, message_id: 1,
            ecs_scalein_protection_manager_kwargs=options,
        )
        return consumer._place.url.partition("&")[2]

    assert url(expires_in_minutes=None, request_timeout=15, retries=3, backoff_factor=0.5) == (
        "ecs_protection=require"
    )
    assert url(expires_in_minutes=5) == "ecs_protection=require&ecs_protection_expires=5m"
    assert url(raise_for_req_error=False) == url(raise_for_agent_error=False) == "ecs_protection=prefer"
    with pytest.raises(haulage.ECSScaleInProtectionManagerError, match="expires_in_minutes"):
        url(expire=1)
    with pytest.raises(haulage.ECSScaleInProtectionManagerError, match="ECS_AGENT_URI"):
        url(ecs_agent_uri="http://elsewhere")
    monkeypatch.setenv("ECS_AGENT_URI", "http://here")
    assert url(ecs_agent_uri="http://here") == "ecs_protection=require"


def test_memory_is_shared_within_the_process(
    monkeypatch: pytest.MonkeyPatch, start_consumer: StartConsumer
) -> None:
    monkeypatch.setenv("HAULAGE_URL", "memory://")
    start_consumer(lambda body, message_id: body)
    assert new_producer().post("here").result == "here"


def test_the_exceptions_and_their_parents() -> None:
    ddb = (
        haulage.KeyNotFoundError,
        haulage.KeyAlreadyExistsError,
        haulage.ResultMissingError,
        haulage.ResultErrorStatusError,
        haulage.ResultInProgressStatusError,
        haulage.UnparseableItemError,
        haulage.AwaitingResultTimeoutError,
        haulage.ExpiredItemError,
    )
    consumer = (
        haulage.ConsumerAlreadyConsumingError,
        haulage.ConsumerRetryableError,
        haulage.ConsumerStopTimeoutError,
        haulage.ConsumerUnretryableError,
        haulage.ECSScaleInProtectionManagerAgentError,
        haulage.ECSScaleInProtectionManagerError,
        haulage.ECSScaleInProtectionManagerRequestError,
        haulage.HeartbeatError,
        haulage.HeartbeatStopTimeoutError,
    )
    roots = (haulage.ConsumerError, haulage.DDBError, haulage.ProducerError, haulage.SQSConnectionError)
    assert all(issubclass(error, haulage.DDBError) for error in ddb)
    assert all(issubclass(error, haulage.ConsumerError) for error in consumer)
    assert all(issubclass(error, haulage.BaseError) for error in roots)
    assert list(ResultStatus) == ["submitted", "in_progress", "success", "error"]
    assert json.dumps(ResultStatus.SUCCESS) == '"success"'
    response = Response("id", result=1)
    assert (response.request_id, response.status, response.status_code) == (None, "success", 200)
    failed = Response.from_exp(ValueError("no"), "id", 500)
    assert (failed.status, failed.status_code, str(failed.error)) == ("error", 500, "no")

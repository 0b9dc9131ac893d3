"""Submitting, looking and waiting."""

from __future__ import annotations

import asyncio
import pickle
import re
import threading
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import haulage
import pytest
from haulage import Cancellation, JobHandle, NewJob, Progress, Status, testing

from support import SOON


def double(body: int) -> int:
    return body * 2


def test_a_job_runs_and_its_handle_tells_of_it(client: haulage.Client) -> None:
    job = client.submit(21, request_id="r-1", metadata=MappingProxyType({"user": "ada"}))
    assert job.status() is Status.SUBMITTED
    with pytest.raises(haulage.NotFinishedError) as unfinished:
        _ = job.record().result
    assert unfinished.value.job_id == job.id
    with haulage.Worker(double, client):
        assert job.result(SOON) == 42
    record = job.record()
    assert (record.status, record.attempt, record.request_id) == (Status.SUCCESS, 1, "r-1")
    assert record.metadata == {"user": "ada"}
    assert record.started_at is not None and record.finished_at is not None
    assert record.submitted_at <= record.started_at <= record.finished_at
    assert record.submitted_at.utcoffset() == timedelta(0)


def test_another_client_finds_the_job_by_its_id(client: haulage.Client, url: str) -> None:
    job = client.submit("x")
    again = JobHandle.from_id(job.id, haulage.connect(url))
    assert again == job and again.status() == "SUBMITTED"
    assert client.record(job.id, body=True).body == "x"


def test_unknown_ids_are_named(client: haulage.Client) -> None:
    for call in (client.job("nope").status, client.job("nope").result, client.job("nope").cancel):
        with pytest.raises(haulage.NotFoundError, match="nope") as missing:
            call()
        assert isinstance(missing.value, LookupError)


def test_a_wait_that_takes_too_long_ends_and_the_job_goes_on(client: haulage.Client) -> None:
    job = client.submit(1)
    with pytest.raises(haulage.WaitTimeoutError, match="the job goes on") as late:
        job.result(timeout=0.01)
    assert isinstance(late.value, TimeoutError)
    with pytest.raises(haulage.WaitTimeoutError):
        job.result(timeout=timedelta(milliseconds=5))
    assert job.status() is Status.SUBMITTED


def test_cancel_tells_what_it_did(client: haulage.Client) -> None:
    job = client.submit(1)
    assert job.cancel() is Cancellation.DONE
    assert job.cancel() is Cancellation.TOO_LATE
    with pytest.raises(haulage.JobCancelledError) as cancelled:
        job.result()
    assert cancelled.value.job_id == job.id
    job.redrive()
    assert job.status() is Status.SUBMITTED


def test_jobs_are_cancelled_by_what_they_have(client: haulage.Client) -> None:
    first, second, other = (client.submit(1, metadata={"user": user}).id for user in ("anna", "anna", "bert"))
    runs, end = threading.Event(), threading.Event()

    def long(body: int) -> None:
        runs.set()
        end.wait(SOON)

    with haulage.Worker(long, client, max_jobs=1):
        assert runs.wait(SOON)
        came = client.cancel_many(metadata={"user": "anna"})
        assert came == {first: Cancellation.REQUESTED, second: Cancellation.DONE}
        assert client.cancel_many("submitted", metadata={"user": "anna"}) == {}
        end.set()
    assert [record.id for record in client.records(Status.SUBMITTED)] == [other]
    assert asyncio.run(client.cancel_many_async(Status.SUBMITTED)) == {other: Cancellation.DONE}
    with pytest.raises(haulage.InvalidArgumentError, match="nothing says which jobs"):
        client.cancel_many()
    with pytest.raises(haulage.InvalidArgumentError, match="status is submitted or in_progress"):
        client.cancel_many("success")
    with pytest.raises(TypeError, match="no colour to look for"):
        client.cancel_many(colour="red")  # type: ignore[call-arg]


def test_submit_many_and_map_keep_the_order(client: haulage.Client) -> None:
    handles = client.submit_many(range(100), max_attempts=1)
    assert len({handle.id for handle in handles}) == 100
    with haulage.Worker(double, client, concurrency=8):
        assert [record.result for record in client.wait(handles, SOON)] == [n * 2 for n in range(100)]
        assert sorted(r.result for r in client.as_completed(handles)) == [n * 2 for n in range(100)]
        assert list(client.map(range(50), wait_timeout=SOON, progress=True)) == [n * 2 for n in range(50)]
    assert client.stats()["success"] == 150


def test_map_raises_where_a_job_failed_or_hands_the_error_over(client: haulage.Client) -> None:
    def odd(body: int) -> int:
        if body % 2:
            raise haulage.Fail(f"{body} is odd")
        return body

    with haulage.Worker(odd, client):
        results = client.map([0, 1, 2])
        assert next(results) == 0
        with pytest.raises(haulage.JobFailedError, match="1 is odd"):
            next(results)
        zero, one, two = client.map([0, 1, 2], return_exceptions=True)
    assert (zero, two) == (0, 2)
    assert isinstance(one, haulage.JobFailedError)


def test_an_idempotency_key_finds_the_first_job(client: haulage.Client) -> None:
    first = client.submit(1, idempotency_key="order-4711")
    second = client.submit(1, idempotency_key="order-4711")
    assert (first.id, first.is_duplicate) == (second.id, False)
    assert second.is_duplicate


def test_an_idempotency_key_with_another_body_is_refused(client: haulage.Client) -> None:
    first = client.submit({"n": 1}, idempotency_key="order-4711", idempotency_window=3600)
    with pytest.raises(haulage.IdempotencyConflictError, match="has another body") as raised:
        client.submit({"n": 2}, idempotency_key="order-4711")
    assert raised.value.job_id == first.id


def test_options_are_checked_before_anything_is_stored(client: haulage.Client) -> None:
    with pytest.raises(haulage.InvalidArgumentError, match="max_attempts is 0"):
        client.submit(1, max_attempts=0)
    with pytest.raises(haulage.InvalidArgumentError, match=r"delay is -1(\.0)? seconds"):
        client.submit(1, delay=-1)
    with pytest.raises(haulage.InvalidArgumentError, match="timeout is soon; give seconds"):
        client.submit(1, timeout="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(haulage.InvalidArgumentError, match="366 days"):
        client.submit(1, result_ttl=timedelta(days=400))
    with pytest.raises(haulage.InvalidJSONError, match=r'the body\["x"\]'):
        client.submit_many([1, {"x": object()}])
    assert client.stats()["visible"] == 0


def test_a_new_job_carries_its_own_options(client: haulage.Client) -> None:
    jobs = client.submit_many([NewJob("a", group="g", delay=60), "b"], group="h")
    records = [job.record() for job in jobs]
    assert [record.group for record in records] == ["g", "h"]
    assert records[0].due_at is not None
    assert records[0].due_at - records[0].submitted_at == timedelta(seconds=60)


def test_jobs_wait_in_queues_and_workers_serve_those_that_they_name(client: haulage.Client) -> None:
    seen: list[tuple[str, int]] = []

    def record(body: int, ctx: haulage.Context) -> None:
        seen.append((ctx.queue, body))

    jobs = client.submit_many([NewJob(n, queue=queue) for n, queue in enumerate(["bulk", "bulk", "first"])])
    other = client.submit(9)
    haulage.Worker(record, client, queues=["first", "bulk"], until_empty=True).run()
    assert sorted(seen) == [("bulk", 0), ("bulk", 1), ("first", 2)]
    assert [job.record().queue for job in jobs] == ["bulk", "bulk", "first"]
    assert (other.record().queue, other.status()) == ("default", Status.SUBMITTED)
    client.submit(10, queue="bulk")
    haulage.Worker(record, client, queues={"bulk": 1, "default": 6}, until_empty=True).run()
    assert {("bulk", 10), ("default", 9)} <= set(seen)
    client.submit(11, queue="bulk")
    haulage.Worker(record, client, queues="first=2,bulk=1", until_empty=True).run()
    assert ("bulk", 11) in seen


def test_a_queue_is_paused_and_resumed(client: haulage.Client) -> None:
    job = client.submit(1, queue="bulk")
    assert (client.pause("bulk"), client.pause("bulk")) == (True, False)
    stats = client.stats()
    assert (stats["visible"], stats["paused"], stats["queues"]["bulk"]["is_paused"]) == (0, 1, True)
    with haulage.Worker(double, client, queues=["bulk"]):
        with pytest.raises(haulage.WaitTimeoutError):
            job.result(0.2)
        assert client.resume("bulk")
        assert job.result(SOON) == 2


def test_calls_about_many_jobs_can_be_about_one_queue(client: haulage.Client) -> None:
    kept = client.submit(1)
    jobs = client.submit_many([1, 2], queue="bulk")
    assert [record.id for record in client.records(queue="bulk")] == [jobs[1].id, jobs[0].id]
    assert client.redrive_dead(queue="bulk") == []
    assert client.purge(Status.SUBMITTED, queue="bulk") == 2
    assert kept.status() is Status.SUBMITTED


@pytest.mark.parametrize(
    ("queues", "message"),
    [
        ("two words", '"two words" is not the name of a queue'),
        ("a=1,b", "some queues have a weight and some have none"),
        ([], "a worker serves 1 to 16 queues, and not 0"),
        (["a", "a"], '"a" is named twice'),
        (["a=1"], '"a=1" is not the name of a queue'),
        ({"a": 0}, 'the weight of the queue "a" is 0'),
        ({"a": 1.5}, "a mapping of names to weights"),
        (5, "a mapping of names to weights"),
    ],
)
def test_queues_that_make_no_sense_are_refused(client: haulage.Client, queues: Any, message: str) -> None:
    with pytest.raises(haulage.InvalidArgumentError, match=re.escape(message)):
        haulage.Worker(double, client, queues=queues).run()


def test_dead_letters_are_listed_and_redriven(client: haulage.Client) -> None:
    def broken(body: object) -> None:
        raise RuntimeError("broken")

    with haulage.Worker(broken, client):
        job = client.submit(1, max_attempts=1)
        job.wait(SOON)
    assert [record.id for record in client.records(dead=True)] == [job.id]
    assert client.redrive_dead() == [job.id]
    assert [record.id for record in client.records(Status.SUBMITTED)] == [job.id]
    assert client.purge(Status.SUBMITTED) == 1


def test_records_are_found_by_what_their_jobs_have(client: haulage.Client) -> None:
    def broken(body: object) -> None:
        raise RuntimeError("CUDA is out of memory")

    with haulage.Worker(broken, client):
        client.submit(0, max_attempts=1).wait(SOON)
    client.submit(1, group="g", request_id="r", metadata={"user": "anna", "team": "blue"})
    client.submit(2, group="g", metadata={"user": "bert", "team": "blue"})
    everything = [record.id for record in client.records()]
    second, first, failed = everything
    for expected, which in {
        (second, first): {"group": "g"},
        (first,): {"request_id": "r"},
        (second,): {"metadata": {"user": "bert", "team": "blue"}},
        (failed,): {"error": "out of memory"},
        (): {"older_than": timedelta(hours=1)},
        (second, first, failed): {"newer_than": 3600.5},
        (first, failed): {"before": second},
    }.items():
        assert tuple(record.id for record in client.records(**which)) == expected, which  # type: ignore[arg-type]
        found = asyncio.run(client.records_async(**which))  # type: ignore[arg-type]
        assert tuple(record.id for record in found) == expected, which
    assert client.records(Status.SUBMITTED, error="out of memory") == []
    assert [record.id for record in client.records(dead=True, error="handler")] == [failed]
    pages = [client.records(limit=2), client.records(limit=2, before=first)]
    assert [record.id for page in pages for record in page] == everything


@pytest.mark.parametrize(
    ("which", "why"),
    [
        ({"group": 5}, "group is 5; it is a text"),
        ({"metadata": ["user"]}, r"metadata is \['user'\]; it is a mapping"),
        ({"older_than": "1h"}, "older_than is 1h; give seconds, or a timedelta"),
        ({"newer_than": -1}, "newer_than is -1 seconds; it cannot be negative"),
    ],
    ids=str,
)
def test_filters_of_the_wrong_kind_are_refused_by_name(which: dict[str, Any], why: str) -> None:
    with pytest.raises(haulage.InvalidArgumentError, match=why):
        testing.memory().records(**which)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"max_attempts": -1}, "max_attempts is -1; it is a whole number"),
        ({"max_attempts": 2**40}, "max_attempts is 1099511627776"),
        ({"max_attempts": "3"}, "max_attempts is '3'"),
        ({"request_id": "r\ud800"}, "request_id has a lone surrogate"),
        ({"group": 5}, "group is 5; it is a text"),
        ({"queue": "no way"}, '"no way" is not the name of a queue'),
        ({"metadata": {"user": 7}}, r'metadata\["user"\] is 7; it is a text'),
        ({"metadata": {7: "user"}}, "a key of metadata is 7; it is a text"),
        ({"metadata": ["user"]}, r"metadata is \['user'\]; it is a mapping"),
    ],
    ids=str,
)
def test_options_of_the_wrong_kind_are_refused_by_name(options: dict[str, Any], why: str) -> None:
    with pytest.raises(haulage.InvalidArgumentError, match=why):
        NewJob(1, **options)


def test_limits_and_counts_of_the_wrong_kind_are_refused_by_name() -> None:
    client = testing.memory()
    with pytest.raises(haulage.InvalidArgumentError, match="limit is -1; it is a whole number"):
        client.records(limit=-1)
    with pytest.raises(haulage.InvalidArgumentError, match="limit is -1; it is a whole number"):
        client.redrive_dead(-1)
    with pytest.raises(
        haulage.InvalidArgumentError, match="processes is -1; it is a whole number, 0 at least"
    ):
        haulage.Worker(double, client, processes=-1)
    with pytest.raises(haulage.InvalidArgumentError, match="worker_name has a lone surrogate"):
        haulage.Worker(double, client, worker_name="w\ud800").start()


def test_the_error_of_a_submit_of_many_goes_to_other_processes_as_a_whole() -> None:
    error = haulage.SubmitManyError(
        "job 1 of 2", index=1, accepted=[(0, "a")], error=haulage.TooLargeError("too large")
    )
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.index, back.accepted) == ("job 1 of 2", 1, [(0, "a")])
    assert isinstance(back.error, haulage.TooLargeError)


def test_map_draws_a_bar(client: haulage.Client, capsys: pytest.CaptureFixture[str]) -> None:
    with haulage.Worker(double, client):
        assert list(client.map([1, 2, 3], wait_timeout=SOON, progress=True)) == [2, 4, 6]
    assert "3/3" in capsys.readouterr().err


def test_progress_is_seen_from_outside(client: haulage.Client) -> None:
    def slow(body: object, ctx: haulage.Context) -> None:
        ctx.set_progress(0.25, "a quarter")
        if ctx.wait_cancelled(SOON):
            raise haulage.Cancelled

    with haulage.Worker(slow, client):
        job = client.submit(1)
        progress = None
        while progress is None:
            progress = job.progress()
        assert progress == Progress(0.25, "a quarter")
        assert job.cancel() is Cancellation.REQUESTED
        assert job.wait(SOON).status is Status.CANCELLED


def test_a_checkpoint_is_there_for_the_next_attempt(client: haulage.Client) -> None:
    def in_steps(body: object, ctx: haulage.Context) -> object:
        last = ctx.last_checkpoint
        ctx.checkpoint([*(last or []), ctx.attempt])
        assert ctx.last_checkpoint == [*(last or []), ctx.attempt]
        if ctx.attempt < 3:
            raise haulage.Retry("again", after=0)
        if body == "fail":
            raise haulage.Fail("no use")
        return last

    with haulage.Worker(in_steps, client):
        job = client.submit("succeed")
        assert job.result(SOON) == [1, 2]
        assert client.record(job.id, body=True).checkpoint is None
        job = client.submit("fail")
        job.wait(SOON)
        assert client.record(job.id, body=True).checkpoint == [1, 2, 3]


def test_a_webhook_is_a_url_or_a_mapping(client: haulage.Client) -> None:
    url = "https://a.example/x?token=secret"
    job = client.submit(1, webhook=url)
    assert client.record(job.id).webhook == {"url": "https://a.example/x?…", "events": ["ended"]}
    job = client.submit(1, webhook={"url": url, "events": ["progress", "ended"]})
    record = client.record(job.id)
    assert record.webhook == {"url": "https://a.example/x?…", "events": ["ended", "progress"]}
    assert record.to_dict()["webhook"] == record.webhook
    assert client.record(client.submit(1).id).webhook is None
    wrong: list[object] = ["example.com", {"url": url, "events": ["end"]}, {"url": url, "events": []}, {}, 7]
    for webhook in wrong:
        with pytest.raises(haulage.InvalidArgumentError, match="webhook"):
            client.submit(1, webhook=webhook)  # type: ignore[arg-type]


def test_a_record_tells_of_its_attempts(client: haulage.Client) -> None:
    def third_time(body: object, ctx: haulage.Context) -> object:
        if ctx.attempt < 3:
            raise haulage.Retry("again", after=0)
        assert ctx.task == "third time"
        return body

    with haulage.Worker(third_time, client, worker_name="w"):
        job = client.submit("secret", drop_body=True, start_within=60, task="third time")
        assert job.result(SOON) == "secret"
    record = client.record(job.id, body=True)
    assert (record.body, record.drop_body, record.start_within) == (None, True, 60.0)
    assert record.task == record.to_dict()["task"] == "third time"
    assert [one.id for one in client.records(task="third time")] == [job.id]
    first, second, third = record.attempts
    assert [a.number for a in record.attempts] == [1, 2, 3]
    assert (first.error, first.error_kind, first.worker) == ("again", "handler", "w")
    assert first.error_type is None
    assert first.ended_at is not None and first.started_at <= first.ended_at <= second.started_at
    assert (third.error, third.ended_at) == (None, record.finished_at)
    assert client.record(job.id).attempts == []


def test_a_job_that_nobody_starts_in_time_does_not_run(client: haulage.Client) -> None:
    job = client.submit(1, start_within=0.01)
    with pytest.raises(haulage.JobFailedError, match="not started within") as failed:
        job.result(SOON)
    assert failed.value.kind == "expired"
    with pytest.raises(haulage.InvalidArgumentError, match="start_within is not longer than delay"):
        client.submit(1, start_within=1, delay=2)


def test_status_and_progress_fetch_no_result(client: haulage.Client) -> None:
    asked: list[str] = []

    class Core:
        def get(self, ids: list[str], detail: str) -> Any:
            asked.append(detail)
            return core.get(ids, detail)

    core: Any = client._core
    with haulage.Worker(lambda body: body, client):
        job = client.submit("large")
        assert job.result(SOON) == "large"
    client._core = Core()  # type: ignore[assignment]
    try:
        assert (job.status(), job.progress()) == (Status.SUCCESS, None)
        assert asyncio.run(job.status_async()) == Status.SUCCESS
        assert asyncio.run(job.progress_async()) is None
        assert asked == ["status"] * 4
        assert job.record().result == "large"
    finally:
        client._core = core


def test_urls_are_explained() -> None:
    with pytest.raises(haulage.ConfigError, match=r"write sqlite://jobs\.db"):
        haulage.connect("jobs.db")
    with pytest.raises(haulage.ConfigError, match="unknown URL scheme `amqp`; write sqlite://"):
        haulage.connect("amqp://host")


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HAULAGE_URL", url)
    assert haulage.connect().url == url
    assert haulage.connect().backend == "embedded"
    assert testing.memory().backend == "memory"


def test_check_finds_the_backend_healthy(client: haulage.Client) -> None:
    findings = client.check()
    assert findings and all(finding["severity"] != "problem" for finding in findings)

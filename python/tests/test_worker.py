"""Workers: what a handler is given, and what its exceptions mean."""

from __future__ import annotations

import pickle
import threading
import time
from datetime import timedelta
from typing import Any

import haulage
import pytest
from haulage import Cancellation, Status, testing

from support import SOON, until


def test_a_handler_gets_what_its_parameters_ask_for() -> None:
    def compatible(body: Any, message_id: str) -> Any:
        return [body, message_id]

    def by_position(body: Any, mid: str, context_of_it: haulage.Context) -> Any:
        return [body, mid, context_of_it.attempt]

    def by_name(body: Any, ctx: haulage.Context, job_id: str, model: str = "small") -> Any:
        return [body, job_id, ctx.request_id, model]

    def keyword_only(body: Any, *, ctx: haulage.Context, job_id: str, model: str = "small") -> Any:
        return [body, job_id, ctx.request_id, model]

    def after_a_default(
        body: Any, threshold: float = 0.5, ctx: haulage.Context | None = None, job_id: str = ""
    ) -> Any:
        assert ctx is not None
        return [body, job_id, ctx.request_id, threshold]

    class Callable:
        def __call__(self, body: Any) -> Any:
            return body

    for handler, extras in (
        (compatible, ["ID"]),
        (by_position, ["ID", 1]),
        (by_name, ["ID", "r", "small"]),
        (keyword_only, ["ID", "r", "small"]),
        (after_a_default, ["ID", "r", 0.5]),
    ):
        with testing.inline(handler) as client:
            job = client.submit("b", request_id="r")
            assert job.result() == ["b", *[job.id if extra == "ID" else extra for extra in extras]]
    with testing.inline(Callable()) as client:
        assert client.submit("b").result() == "b"

    def batch(bodies: list[Any], scale: int = 1, *, ctxs: list[haulage.Context]) -> list[Any]:
        return [[body, scale, ctx.request_id] for body, ctx in zip(bodies, ctxs)]

    with testing.inline(batch, max_batch_size=2) as client:
        assert client.submit("b", request_id="r").result() == ["b", 1, "r"]


def test_handlers_that_cannot_be_called_are_refused() -> None:
    def nothing() -> None: ...

    def many(a: Any, b: Any, c: Any, d: Any) -> None: ...

    with pytest.raises(ValueError, match="takes no argument"):
        haulage.Worker(nothing)
    with pytest.raises(ValueError, match="has 4 parameters"):
        haulage.worker(many)

    def unknown(body: Any, *, tokenizer: Any) -> None: ...

    with pytest.raises(ValueError, match="requires tokenizer, which a worker does not know"):
        haulage.worker(unknown)
    with pytest.raises(ValueError, match="cannot be called"):
        haulage.Worker(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(haulage.InvalidArgumentError, match="no option concurency; it knows"):
        haulage.Worker(many, concurency=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(haulage.InvalidArgumentError, match="concurrency is 0"):
        haulage.Worker(len, testing.memory(), concurrency=0).start()
    with pytest.raises(haulage.InvalidArgumentError, match="shorter than the lease"):
        haulage.Worker(len, testing.memory(), lease=1, heartbeat_interval=2).start()


def test_a_decorated_function_is_still_a_function() -> None:
    @haulage.worker
    def plain(body: int) -> int:
        """Adds one."""
        return body + 1

    @haulage.worker(concurrency=2, max_batch_size=3)
    def batched(bodies: list[int]) -> list[int]:
        return bodies

    assert plain(1) == 2
    assert plain.__doc__ == "Adds one." and plain.__name__ == "plain"
    assert batched.options == {"concurrency": 2, "max_batch_size": 3}
    with testing.inline(plain) as client:
        assert client.submit(1).result() == 2


def test_a_handler_puts_its_job_off_and_no_attempt_is_counted() -> None:
    def handler(body: Any, ctx: haulage.Context) -> int:
        if ctx.attempt < 10:
            raise haulage.Snooze(timedelta(minutes=1), "no licence is free")
        return ctx.attempt

    with testing.inline(handler) as client:
        job = client.submit(1, max_attempts=1)
        assert job.result() == 10
        record = job.record()
        assert (record.error_kind, record.error) == ("released", "no licence is free")
        assert record.uncounted == 9


def test_a_job_that_is_put_off_says_why_it_waits() -> None:
    def handler(bodies: list[int]) -> list[Any]:
        return [haulage.Snooze(3600, "later") if body == 1 else body for body in bodies]

    async def task(body: int) -> int:
        if body == 1:
            raise haulage.Snooze(3600)
        return body

    for function, options, why in ((handler, {"max_batch_size": 2}, "later"), (task, {}, "the handler put")):
        client = testing.memory()
        given: dict[str, Any] = {**options}
        with haulage.Worker(function, client, **given):
            put_off, done = client.submit_many([1, 2], max_attempts=1)
            assert done.result(SOON) == 2
            while (record := put_off.record()).error is None:
                time.sleep(0.01)
        assert record.status is Status.SUBMITTED and record.error.startswith(why)
        assert record.due_at is not None and record.due_at > record.submitted_at + timedelta(minutes=59)


def test_a_handler_that_is_put_off_for_no_length_of_time_has_failed() -> None:
    def handler(body: Any) -> None:
        raise haulage.Snooze("soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    with testing.inline(handler) as client:
        record = client.submit(1, max_attempts=2).wait()
        assert record.dead and "'soon', which is not a length of time" in str(record.error)


def test_a_handler_that_is_not_ready_costs_no_attempt_and_is_called_no_more_until_it_is() -> None:
    calls: list[int] = []
    server = threading.Event()

    def handler(body: int) -> int:
        calls.append(body)
        if not server.is_set():
            raise haulage.NotReady("the model server is down")
        return body

    client = testing.memory()
    with haulage.Worker(handler, client, concurrency=4) as worker:
        jobs = client.submit_many(list(range(50)), max_attempts=1)
        while worker._now is None or worker._now.consumer.state != "not ready":
            time.sleep(0.01)
        assert {job.status() for job in jobs} <= {Status.SUBMITTED, Status.IN_PROGRESS}
        assert len(calls) < 20, "four at once, and then one in a second or more"
        server.set()
        assert [job.result(SOON) for job in jobs] == list(range(50))


def test_what_a_handler_raises_survives_a_pickle() -> None:
    put_off = pickle.loads(pickle.dumps(haulage.Snooze(60, "later")))
    assert (put_off.after, str(put_off)) == (60, "later")
    assert str(pickle.loads(pickle.dumps(haulage.NotReady("down")))) == "down"


def test_an_error_is_tried_again_and_recorded_with_its_traceback() -> None:
    attempts: list[int] = []

    def flaky(body: Any, ctx: haulage.Context) -> str:
        attempts.append(ctx.attempt)
        assert ctx.is_last_attempt == (ctx.attempt == 3)
        if body == "always" or ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")
        return "done"

    with testing.inline(flaky) as client:
        assert client.submit("sometimes").result() == "done"
        assert attempts == [1, 2, 3]
        job = client.submit("always")
        with pytest.raises(haulage.JobFailedError) as failed:
            job.result()
        assert job.record().dead
    error = str(failed.value)
    assert error.startswith("ValueError: attempt 3\n\nTraceback (most recent call last):\n")
    assert "in flaky" in error and 'raise ValueError(f"attempt' in error
    assert "haulage/_" not in error, "only the handler's own frames"
    assert failed.value.kind == "handler"


def test_long_errors_are_cut_to_their_ends() -> None:
    def deep(n: int) -> None:
        if n == 0:
            raise ValueError("x" * 5000 + "the end")
        try:
            deep(n - 1)
        except (RuntimeError, ValueError) as error:
            raise RuntimeError(f"at {n} " + "é" * 400) from error

    with testing.inline(deep) as client:
        error = client.submit(30, max_attempts=1).record().error
    assert error is not None and len(error.encode()) <= 8 * 1024
    assert error.startswith("RuntimeError: at 30") and error.endswith("é")
    assert "[cut] …" in error


def test_fail_retry_and_cancelled_are_said_by_exceptions() -> None:
    def handler(body: str, ctx: haulage.Context) -> str:
        if body == "fail":
            raise haulage.Fail("the image is empty")
        if body == "cancelled":
            raise haulage.Cancelled
        if ctx.attempt == 1:
            raise haulage.Retry("no GPU is free", after=3600)
        return "second"

    with testing.inline(handler) as client:
        failed = client.submit("fail").record()
        assert (failed.status, failed.error, failed.attempt) == (Status.ERROR, "the image is empty", 1)
        assert client.submit("cancelled").record().status is Status.CANCELLED
        retried = client.submit("retry").record()
        assert (retried.result, retried.attempt) == ("second", 2)
        assert retried.started_at is not None
        assert (retried.started_at - retried.submitted_at).total_seconds() >= 3600


class _NoModel(Exception):
    pass


class _Empty(haulage.Fail):
    pass


def test_a_record_has_the_type_of_the_exception() -> None:
    def handler(body: int, ctx: haulage.Context) -> None:
        try:
            if body == 0:
                raise ValueError("no")
            if body == 1:
                raise _Empty("nothing in it")
            if body == 2:
                raise haulage.Fail("of no type")
            raise _NoModel("x")
        except _NoModel as error:
            raise haulage.Retry("later", after=0) from error

    with testing.inline(handler) as client:
        records = [client.submit(n, max_attempts=1).record() for n in range(4)]
        with pytest.raises(haulage.JobFailedError) as raised:
            client.submit(0, max_attempts=1).result()
    assert [record.error_type for record in records] == [
        "ValueError",
        f"{__name__}._Empty",
        None,
        f"{__name__}._NoModel",
    ]
    assert raised.value.type == "ValueError"
    assert records[0].to_dict()["error"]["type"] == "ValueError"


def test_non_retryable_exceptions_fail_at_once() -> None:
    def handler(body: Any) -> None:
        raise KeyError("no such model")

    with testing.inline(handler, non_retryable=(LookupError,)) as client:
        record = client.submit(1).record()
    assert (record.status, record.attempt) == (Status.ERROR, 1)
    assert record.error is not None and record.error.startswith("KeyError: 'no such model'")


def test_system_exit_in_a_handler_is_a_failed_attempt() -> None:
    def handler(body: Any) -> None:
        raise SystemExit(3)

    with testing.inline(handler) as client:
        record = client.submit(1, max_attempts=2).record()
    assert (record.status, record.attempt) == (Status.ERROR, 2)
    assert record.error is not None and "SystemExit: 3" in record.error


def test_handlers_that_wait_run_side_by_side(client: haulage.Client) -> None:
    together = threading.Barrier(8)

    def wait(body: int) -> str:
        together.wait(SOON)
        return threading.current_thread().name

    with haulage.Worker(wait, client, concurrency=8):
        names = set(client.map(range(16), wait_timeout=SOON))
    assert 8 <= len(names) <= 16 and all(name.startswith("haulage-") for name in names)


def test_one_at_a_time_is_one_thread(client: haulage.Client) -> None:
    def name(body: int) -> str:
        return threading.current_thread().name

    with haulage.Worker(name, client):
        assert len(set(client.map(range(50), wait_timeout=SOON))) == 1


def test_batches_take_and_return_lists(client: haulage.Client) -> None:
    @haulage.worker(max_batch_size=4, batch_timeout=SOON)
    def classify(bodies: list[str], ctxs: list[haulage.Context]) -> list[Any]:
        assert [ctx.attempt for ctx in ctxs] == [1] * len(bodies)
        return [haulage.Fail("not this one") if body == "bad" else len(bodies) for body in bodies]

    with classify.worker(client):
        results = list(client.map(["a", "bad", "c", "d"], return_exceptions=True))
    assert [results[0], results[2], results[3]] == [4, 4, 4]
    assert isinstance(results[1], haulage.JobFailedError) and str(results[1]) == "not this one"


def test_a_batch_with_the_wrong_number_of_results_fails_as_a_whole() -> None:
    def short(bodies: list[Any]) -> list[Any]:
        return []

    def text(bodies: list[Any]) -> Any:
        return "abc"

    with testing.inline(short, max_batch_size=3) as client:
        record = client.submit(1, max_attempts=1).record()
        assert record.error == "the batched handler got 1 jobs and returned 0 results"
    with testing.inline(text, max_batch_size=3) as client:
        record = client.submit(1).record()
        assert record.error == "the batched handler returned a str; it has to return a list"


def test_a_cancelled_job_is_told_and_its_outcome_kept(client: haulage.Client) -> None:
    started = threading.Event()

    def handler(body: Any, ctx: haulage.Context) -> str:
        started.set()
        assert not ctx.cancelled
        assert ctx.wait_cancelled(SOON) and ctx.cancelled
        raise haulage.Cancelled

    with haulage.Worker(handler, client):
        job = client.submit(1)
        assert started.wait(SOON)
        assert job.cancel() is Cancellation.REQUESTED
        assert job.wait(SOON).status is Status.CANCELLED


def test_a_job_that_runs_into_its_timeout_is_settled_without_its_handler(client: haulage.Client) -> None:
    release = threading.Event()

    def stuck(body: Any, ctx: haulage.Context) -> None:
        assert ctx.deadline is not None
        ctx.wait_cancelled(SOON)
        release.wait(SOON)

    with haulage.Worker(stuck, client):
        record = client.submit(1, timeout=0.05, max_attempts=1).wait(SOON)
        assert (record.status, record.error_kind) == (Status.ERROR, "timeout")
        release.set()


def test_stop_finishes_what_runs_and_counts(client: haulage.Client) -> None:
    started, release = threading.Event(), threading.Event()

    def handler(body: int) -> int:
        started.set()
        release.wait(SOON)
        return body

    worker = haulage.Worker(handler, client)
    worker.start()
    jobs = client.submit_many([1, 2])
    assert started.wait(SOON) and worker.is_running and worker.busy == 1
    assert worker.stop(timeout=0.05) is None, "it still stops"
    release.set()
    summary = worker.stop()
    assert summary is not None and summary["succeeded"] == 1
    assert not worker.is_running and worker.stop() is None
    assert [job.status() for job in jobs] == [Status.SUCCESS, Status.SUBMITTED]
    with worker:
        assert jobs[1].result(SOON) == 2, "it can be started again"


def test_all_who_wait_for_the_end_get_the_summary(client: haulage.Client) -> None:
    worker = haulage.Worker(lambda body: body, client)
    summaries: list[Any] = []
    running = threading.Thread(target=lambda: summaries.append(worker.run()))
    running.start()
    assert client.submit(1).result(SOON) == 1
    stopping = [threading.Thread(target=lambda: summaries.append(worker.stop())) for _ in range(3)]
    for thread in stopping:
        thread.start()
    for thread in (running, *stopping):
        thread.join(SOON)
    # Who comes when it is over already has nothing to stop.
    told = [summary for summary in summaries if summary is not None]
    assert len(summaries) == 4 and told and all(summary["succeeded"] == 1 for summary in told)
    assert not worker.is_running
    with worker:
        assert client.submit(2).result(SOON) == 2


def test_the_end_of_a_run_leaves_the_next_one_alone(client: haulage.Client) -> None:
    started, release = threading.Event(), threading.Event()

    def handler(body: int) -> int:
        started.set()
        release.wait(SOON)
        return body

    worker = haulage.Worker(handler, client)
    running = threading.Thread(target=worker.run)
    running.start()
    client.submit(1)
    assert started.wait(SOON)
    release.set()
    worker.stop()
    with worker:
        running.join(SOON)
        assert worker.is_running
        assert client.submit(2).result(SOON) == 2


def test_stop_now_gives_the_job_back_and_the_attempt_does_not_count(client: haulage.Client) -> None:
    started, release = threading.Event(), threading.Event()

    def handler(body: int) -> int:
        started.set()
        release.wait(SOON)
        return body

    worker = haulage.Worker(handler, client)
    worker.start()
    job = client.submit(1, max_attempts=1)
    assert started.wait(SOON)
    worker.stop_now()
    summary = worker.stop()
    assert summary is not None and summary["released"] == 1
    assert job.status() is Status.SUBMITTED
    release.set()
    with haulage.Worker(lambda body: body, client):
        assert job.result(SOON) == 1


def test_on_start_runs_once_before_the_first_job(client: haulage.Client) -> None:
    order: list[str] = []
    worker = haulage.Worker(lambda body: order.append("job"), client, on_start=lambda: order.append("start"))
    with worker:
        list(client.map([1, 2], wait_timeout=SOON))
    assert order == ["start", "job", "job"]


def test_an_idle_worker_picks_up_at_once(client: haulage.Client) -> None:
    with haulage.Worker(lambda _: time.time(), client):
        client.submit(0).result(SOON)
        delays: list[float] = []
        for _ in range(20):
            began = time.time()
            delays.append(client.submit(0).result(SOON) - began)
    assert min(delays) < 0.1


def test_a_worker_ends_by_itself_and_can_be_started_again() -> None:
    with haulage.connect("memory://") as client:
        for number in range(5):
            client.submit(number)
        worker = haulage.Worker(lambda body: body, client, max_jobs=3)
        assert worker.run()["succeeded"] == 3
        worker = haulage.Worker(lambda body: body, client, until_empty=True, concurrency=2)
        worker.start()
        until(lambda: not worker.is_running)
        client.submit(5)
        worker.start()
        until(lambda: not worker.is_running)
        summary = worker.stop()
        assert summary is not None
        assert summary["succeeded"] == 1
        with pytest.raises(haulage.InvalidArgumentError, match="until_empty is 'yes'; it is True or False"):
            haulage.Worker(lambda body: body, client, until_empty="yes").run()  # type: ignore[arg-type]

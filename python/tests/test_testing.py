"""What the package gives to its users' own tests."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import haulage
import pytest
from haulage import Status, testing


def test_inline_runs_in_the_callers_thread_before_submit_returns() -> None:
    threads: list[threading.Thread] = []
    with testing.inline(lambda body: threads.append(threading.current_thread())) as client:
        assert client.submit(1).status() == "SUCCESS"
    assert threads == [threading.current_thread()]


def test_inline_delays_and_backoff_take_no_time() -> None:
    def handler(body: Any, ctx: haulage.Context) -> int:
        if ctx.attempt < 10:
            raise haulage.Retry(after=24 * 3600)
        return ctx.attempt

    with testing.inline(handler) as client:
        assert client.submit(1, delay=365 * 24 * 3600, max_attempts=10).result() == 10


def test_inline_a_worker_that_is_not_ready_takes_no_time() -> None:
    down = iter([True] * 20)

    def handler(body: int) -> int:
        if next(down, False):
            raise haulage.NotReady("the model server is down")
        return body

    with testing.inline(handler) as client:
        assert client.submit(7, max_attempts=1).result() == 7


def test_inline_a_job_that_is_put_off_for_ever_is_told() -> None:
    def handler(body: int) -> int:
        raise haulage.Snooze(60)

    with testing.inline(handler) as client, pytest.raises(haulage.HaulageError, match="puts them off"):
        client.submit(7)


def test_inline_map_batches_and_redrive() -> None:
    broken = True

    @haulage.worker(max_batch_size=3)
    def handler(bodies: list[int]) -> list[Any]:
        if broken:
            raise haulage.Fail("not yet")
        return [body * len(bodies) for body in bodies]

    with testing.inline(handler) as client:
        job = client.submit(5)
        assert job.record().error == "not yet"
        broken = False
        job.redrive()
        assert job.result() == 5
        assert list(client.map([1, 2, 3])) == [3, 6, 9]


def test_inline_jobs_may_submit_jobs() -> None:
    def handler(body: int) -> Any:
        return body if body == 0 else [body, client.submit(body - 1).id]

    client = testing.memory()
    with haulage.Worker(handler, client, concurrency=2):
        top = client.submit(2).result(10)
        assert top[0] == 2
        assert client.job(top[1]).result(10)[0] == 1


def test_inline_jobs_that_a_handler_submits_run_when_it_has_returned() -> None:
    order: list[int] = []

    def handler(body: int) -> Any:
        if body > 0:
            child = client.submit(body - 1)
            assert child.status() == "SUBMITTED"
            with pytest.raises(haulage.NotFinishedError, match="runs when the handler"):
                child.result()
            order.append(body)
            return child.id
        order.append(body)
        return "last"

    with testing.inline(handler) as client:
        job = client.submit(2)
        assert order == [2, 1, 0]
        assert client.job(client.job(job.result()).result()).result() == "last"


def test_inline_runs_whatever_the_form_of_the_submit() -> None:
    async def main(client: haulage.Client) -> None:
        assert await (await client.submit_async(1)) == 2
        jobs = await client.submit_many_async([1, 2])
        assert [record.result for record in await client.wait_async(jobs)] == [2, 3]
        assert [result async for result in client.map_async([3, 4])] == [4, 5]
        assert [record.result async for record in client.as_completed_async(jobs[:1])] == [2]

    with testing.inline(lambda body: body + 1) as client:
        asyncio.run(main(client))
        assert [record.result for record in client.as_completed([client.submit(5)])] == [6]


def test_a_closed_inline_client_refuses_to_submit() -> None:
    with testing.inline(lambda body: body) as client:
        job = client.submit(1)
    assert job.result() == 1
    with pytest.raises(haulage.HaulageError, match="the inline client is closed"):
        client.submit(2)


def test_ctrl_c_and_the_end_of_a_test_come_through_an_inline_handler() -> None:
    def handler(body: str) -> None:
        if body == "interrupt":
            raise KeyboardInterrupt
        pytest.fail("not what the test wants")

    with testing.inline(handler) as client:
        with pytest.raises(KeyboardInterrupt):
            client.submit("interrupt", max_attempts=1)
        with pytest.raises(pytest.fail.Exception, match="not what the test wants"):
            client.submit("fail", max_attempts=1)
        # Neither job is left to run: they end, as soon as the worker has noted it.
        jobs = [record.id for record in client.records()]
        assert len(jobs) == 2
        assert {record.status for record in client.wait(jobs, timeout=300)} == {haulage.Status.ERROR}


def test_async_handlers_do_not_run_inline() -> None:
    async def handler(body: Any) -> None: ...

    with pytest.raises(ValueError, match=r"testing\.memory"):
        testing.inline(handler)


def test_only_an_inline_clock_can_be_moved() -> None:
    client = testing.memory()
    with pytest.raises(haulage.InvalidArgumentError, match="the machine's"):
        client._core.advance(1)


def test_inline_serves_the_queues_that_it_is_given_and_waits_for_no_other() -> None:
    with testing.inline(lambda body: body + 1, queues=["first", "bulk"]) as client:
        assert [job.result() for job in client.submit_many([1, 2], queue="bulk", delay=60)] == [2, 3]
        other = client.submit(3)
        assert other.status() is Status.SUBMITTED
        with pytest.raises(haulage.NotFinishedError, match=r"in the queue default, which nobody serves"):
            other.result()
        client.pause("bulk")
        assert client.submit(4, queue="bulk").status() is Status.SUBMITTED

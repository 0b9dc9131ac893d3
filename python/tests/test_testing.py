"""What the package gives to its users' own tests."""

from __future__ import annotations

import threading
from typing import Any

import haulage
import pytest
from haulage import testing


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


def test_async_handlers_do_not_run_inline() -> None:
    async def handler(body: Any) -> None: ...

    with pytest.raises(ValueError, match=r"testing\.memory"):
        testing.inline(handler)


def test_only_an_inline_clock_can_be_moved() -> None:
    client = testing.memory()
    with pytest.raises(haulage.InvalidArgumentError, match="the machine's"):
        client._core.advance(1)

"""In event loops: clients that wait, and handlers that do."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import haulage
import pytest
from haulage import Status, _wait

from support import SOON


async def triple(body: int) -> int:
    await asyncio.sleep(0)
    return body * 3


def test_the_async_forms(client: haulage.Client, url: str) -> None:
    async def main() -> None:
        other = await haulage.connect_async(url)
        job = await other.submit_async(2)
        assert await job == 6
        assert await job.result_async(SOON) == 6
        assert (await job.wait_async()).status is Status.SUCCESS
        assert (await job.status_async(), await job.progress_async()) == (Status.SUCCESS, None)
        jobs = await other.submit_many_async([1, 2, 3])
        assert [record.result for record in await other.wait_async(jobs)] == [3, 6, 9]
        assert sorted([r.result async for r in other.as_completed_async(jobs)]) == [3, 6, 9]
        assert [result async for result in other.map_async([4, 5])] == [12, 15]
        assert (await other.stats_async())["success"] == 6
        assert await job.cancel_async() == "too_late"
        assert len(await other.records_async("SUCCESS", limit=4)) == 4
        assert isinstance(await other.check_async(), list)
        assert await other.redrive_dead_async() == []
        with pytest.raises(haulage.HaulageError):
            await job.redrive_async()
        assert await other.purge_async("SUCCESS") == 6
        with pytest.raises(haulage.NotFoundError):
            await other.job("nope")

    with haulage.Worker(triple, client, concurrency=10):
        asyncio.run(main())


def test_the_loop_runs_on_while_one_waits(client: haulage.Client) -> None:
    async def main() -> None:
        job = await client.submit_async(1)
        with pytest.raises(haulage.WaitTimeoutError):
            await job.result_async(timeout=0.01)
        waiting = asyncio.ensure_future(job.result_async())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(job.result_async(), 0.01)
        assert await job.status_async() is Status.SUBMITTED

    asyncio.run(main())


def test_async_handlers_run_side_by_side_in_one_loop(client: haulage.Client) -> None:
    waiting: list[asyncio.Future[None]] = []

    async def meet(body: int) -> str:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        if len(waiting) == 5:
            for other in waiting:
                other.set_result(None)
        await mine
        return threading.current_thread().name

    with haulage.Worker(meet, client, concurrency=5):
        assert set(client.map(range(5), wait_timeout=SOON)) == {"haulage-asyncio"}


def test_a_cancelled_job_cancels_the_task(client: haulage.Client) -> None:
    started = threading.Event()
    seen: list[str] = []

    async def handler(body: Any) -> None:
        started.set()
        try:
            await asyncio.sleep(SOON)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with haulage.Worker(handler, client):
        job = client.submit(1)
        assert started.wait(SOON)
        job.cancel()
        assert job.wait(SOON).status is Status.CANCELLED
    assert seen == ["cancelled"]


def test_a_timeout_cancels_the_task(client: haulage.Client) -> None:
    async def handler(body: Any) -> None:
        await asyncio.sleep(SOON)

    with haulage.Worker(handler, client):
        record = client.submit(1, timeout=0.05, max_attempts=1).wait(SOON)
    assert (record.status, record.error_kind) == (Status.ERROR, "timeout")


def test_errors_of_async_handlers_have_tracebacks(client: haulage.Client) -> None:
    async def broken(body: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with haulage.Worker(broken, client):
        error = client.submit(1, max_attempts=1).wait(SOON).error
    assert error is not None and error.startswith("ValueError: broken") and "in broken" in error


def test_async_batches(client: haulage.Client) -> None:
    async def batch(bodies: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return [body + len(bodies) for body in bodies]

    with haulage.Worker(batch, client, max_batch_size=3, batch_timeout=SOON):
        assert list(client.map([0, 10, 20], wait_timeout=SOON)) == [3, 13, 23]


def test_each_task_has_a_context_of_its_own(client: haulage.Client) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def handler(body: int) -> int:
        before = variable.get()
        variable.set(body)
        await asyncio.sleep(0)
        return before

    with haulage.Worker(handler, client, concurrency=4):
        assert set(client.map(range(1, 20), wait_timeout=SOON)) == {0}


def test_the_loop_runs_on_while_a_worker_starts(client: haulage.Client) -> None:
    released = threading.Event()

    def on_start() -> None:
        assert released.wait(SOON), "the loop never ran"

    async def main() -> None:
        running = asyncio.ensure_future(haulage.Worker(triple, client, on_start=on_start).run_async())
        await asyncio.sleep(0)
        released.set()
        assert await (await client.submit_async(5)) == 15
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()

    asyncio.run(main())


def test_a_second_cancel_gives_everything_back_at_once(client: haulage.Client) -> None:
    started, release = threading.Event(), threading.Event()

    def handler(body: int) -> None:
        started.set()
        release.wait(SOON)

    async def main() -> None:
        worker = haulage.Worker(handler, client, shutdown_grace_period=3600)
        running = asyncio.ensure_future(worker.run_async())
        job = await client.submit_async(1)
        await asyncio.to_thread(started.wait, SOON)
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0)
            assert not running.done()
        await asyncio.wait([running])
        assert running.cancelled() and not worker.is_running
        assert await job.status_async() is Status.SUBMITTED

    asyncio.run(main())
    release.set()


def test_a_wait_that_is_dropped_with_its_loop_ends_its_operation() -> None:
    class Operation:
        aborted = False

        def notify(self, callback: Any) -> bool:
            return True

        def abort(self) -> None:
            self.aborted = True

    async def main() -> None:
        operation: Any = Operation()
        waiting = _wait.ended(operation)
        waiting.send(None)
        waiting.close()
        assert operation.aborted

    asyncio.run(main())


def test_a_worker_in_a_loop_stops_when_its_task_is_cancelled(client: haulage.Client) -> None:
    async def main() -> None:
        worker = haulage.Worker(triple, client)
        running = asyncio.ensure_future(worker.run_async())
        assert await (await client.submit_async(5)) == 15
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not worker.is_running

    asyncio.run(main())

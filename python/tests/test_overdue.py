"""Handlers that go on when their jobs are over, and waits that never end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import haulage
import pytest
from haulage import InvalidArgumentError, Status, testing
from haulage._worker import threads
from haulage._worker.overdue import Overdue

from support import SOON, free_port, until

# The time limit of a job whose handler has begun by then, in seconds, also where the machine is slow.
BEGUN = 3.0


def page(address: str, path: str) -> str:
    with urlopen(f"http://{address}{path}") as answer:
        return bytes(answer.read()).decode()


class Deaf:
    """A handler that ignores its time limit until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = 0

    def __call__(self, body: str) -> str:
        if body == "deaf":
            self.begun += 1
            assert self.go.wait(300)
        return body


@pytest.fixture
def deaf() -> Any:
    handler = Deaf()
    yield handler
    handler.go.set()


def test_a_handler_that_ignores_its_time_limit_loses_its_slot_to_another_thread(
    deaf: Deaf, caplog: pytest.LogCaptureFixture
) -> None:
    client = testing.memory()
    address = f"127.0.0.1:{free_port()}"
    late = client.submit("deaf", timeout=BEGUN, max_attempts=1)
    others = client.submit_many(["fine"] * 5)
    with (
        caplog.at_level(logging.WARNING, "haulage"),
        haulage.Worker(deaf, client, cancel_grace_period=0.1, http_listen=address) as worker,
    ):
        assert [job.result(SOON) for job in others] == ["fine"] * 5, "though the only slot was taken"
        assert late.status() is Status.ERROR
        assert f"{late.id}: the handler has not stopped in time; as nothing can end" in caplog.text
        assert json.loads(page(address, "/health")) == {"status": "ok", "stuck": 1}
        assert 'haulage_calls_stuck{store="memory"} 1\n' in page(address, "/metrics")
        deaf.go.set()
        until(lambda: 'haulage_calls_stuck{store="memory"} 0\n' in page(address, "/metrics"))
        assert client.submit("again").result(SOON) == "again"
        assert worker.is_running
    assert "has stopped" in caplog.text


class DeafTask(Deaf):
    """The same as a task of a worker that serves an async one as well."""

    def jobs(
        self, client: haulage.Client
    ) -> tuple[Any, haulage.JobHandle[str], list[haulage.JobHandle[str]]]:
        """What a worker runs; a job that ignores its time limit, and others."""

        @haulage.task
        def deaf(body: str) -> str:
            return self(body)

        @haulage.task
        async def fine(body: str) -> str:
            return body

        late = deaf.using(client, timeout=BEGUN, max_attempts=1).submit("deaf")
        others = [task.using(client).submit("fine") for task in (deaf, fine, deaf, fine)]
        return [deaf, fine], late, others


class DeafCoroutine(Deaf):
    """The same as an async handler that catches its cancel."""

    async def wait(self, body: str) -> str:
        if body == "deaf":
            self.begun += 1
            while not self.go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
        return body

    def jobs(
        self, client: haulage.Client
    ) -> tuple[Any, haulage.JobHandle[str], list[haulage.JobHandle[str]]]:
        """What a worker runs; a job that ignores its time limit, and others."""
        late = client.submit("deaf", timeout=BEGUN, max_attempts=1)
        return self.wait, late, client.submit_many(["fine"] * 4)


@pytest.mark.parametrize("deaf", [DeafTask(), DeafCoroutine()], ids=["task", "coroutine"])
def test_what_ignores_its_time_limit_beside_an_event_loop_loses_its_slot_too(
    deaf: DeafTask | DeafCoroutine, caplog: pytest.LogCaptureFixture
) -> None:
    client = testing.memory()
    address = f"127.0.0.1:{free_port()}"
    handler, late, others = deaf.jobs(client)
    with (
        caplog.at_level(logging.WARNING, "haulage"),
        haulage.Worker(handler, client, cancel_grace_period=0.1, http_listen=address) as worker,
    ):
        assert [job.result(SOON) for job in others] == ["fine"] * 4, "though the only slot was taken"
        assert deaf.begun == 1
        assert late.status() is Status.ERROR
        assert f"{late.id}: the handler has not stopped in time; as nothing can end" in caplog.text
        assert json.loads(page(address, "/health")) == {"status": "ok", "stuck": 1}
        assert 'haulage_calls_stuck{store="memory"} 1\n' in page(address, "/metrics")
        deaf.go.set()
        until(lambda: 'haulage_calls_stuck{store="memory"} 0\n' in page(address, "/metrics"))
        assert worker.is_running
    assert "has stopped" in caplog.text
    assert "could not be carried out" not in caplog.text


def test_a_worker_ends_with_more_deaf_coroutines_than_slots() -> None:
    client = testing.memory()
    deaf = DeafCoroutine()
    jobs = [client.submit("deaf", timeout=BEGUN, max_attempts=1) for _ in range(2)]
    with pytest.raises(haulage.WorkerBroken, match=r"2 handlers go on .* let CancelledError pass"):
        haulage.Worker(deaf.wait, client, cancel_grace_period=0.1).run()
    deaf.go.set()
    assert deaf.begun == 2
    assert [job.status() for job in jobs] == [Status.ERROR, Status.ERROR]


def test_an_event_loop_that_answers_late_does_not_end_the_worker() -> None:
    client = testing.memory()
    deaf = DeafCoroutine()
    late = client.submit("deaf", timeout=BEGUN, max_attempts=1)
    # The loop has not answered at the moment at which it is asked.
    with haulage.Worker(deaf.wait, client, cancel_grace_period=0) as worker:
        assert client.submit("fine").result(SOON) == "fine", "the slot has gone to it"
        assert late.status() is Status.ERROR
        assert worker.is_running
        deaf.go.set()


def test_a_handler_that_blocks_the_event_loop_for_good_ends_the_worker_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_ANSWER", 0.1)
    client = testing.memory()
    blocked, go = threading.Event(), threading.Event()

    async def handler(body: str) -> str:
        if body == "block":
            blocked.set()
            while not go.is_set():
                time.sleep(0.01)
        return body

    late = client.submit("block", timeout=BEGUN, max_attempts=1)
    beside = client.submit("beside", max_attempts=1, delay=0.5)
    with pytest.raises(haulage.WorkerBroken, match="blocks the event loop in which all the others run"):
        haulage.Worker(handler, client, concurrency=2, cancel_grace_period=0.1).run()
    assert blocked.is_set()
    go.set()
    assert late.status() is Status.ERROR
    record = client.record(beside.id)
    assert (record.status, record.uncounted) == (Status.SUBMITTED, 1), "it is given back, uncounted"


class Unwanted:
    """A call whose jobs are over, and that counts how often somebody looks."""

    job_ids = ("a",)
    looks = 0

    @property
    def is_unwanted(self) -> bool:
        self.looks += 1
        return True


def test_a_handler_has_its_grace_period_to_stop() -> None:
    def never(*_: Any) -> None:
        raise AssertionError("it has time left")

    overdue, call = Overdue(1, never, never), Unwanted()
    overdue.grace = 300
    given: Any = call
    overdue.begin(1, given)
    overdue.start()
    until(lambda: call.looks >= 3)
    overdue.close()
    assert not overdue.end(1), "nobody has taken its place"


def test_calls_that_end_within_their_grace_period_are_forgotten() -> None:
    overdue = Overdue(1, lambda: None, lambda _: None)
    overdue.grace = 300
    overdue.start()
    call = Unwanted()
    given: Any = call
    overdue.begin(1, given)
    until(lambda: call.looks >= 2)
    assert overdue._unwanted
    assert not overdue.end(1)
    overdue.close()
    assert overdue._unwanted == {}


def test_a_worker_with_more_deaf_handlers_than_slots_ends_with_a_code_of_its_own(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "deaf.py").write_text(
        "import time\n"
        "def handler(body):\n"
        "    while body == 'deaf':\n        time.sleep(0.01)\n"
        "    time.sleep(3)\n"
        "    return body\n"
    )
    client = haulage.connect(url)
    for _ in range(2):
        client.submit("deaf", timeout=BEGUN, max_attempts=1)
    command = [sys.executable, "-m", "haulage", "worker", "--url", url, "--python", "deaf:handler"]
    done = subprocess.run(
        [*command, "--cancel-grace-period", "100ms"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 75, done.stderr
    assert "2 handlers go on though their jobs are over, the last that of " in done.stderr
    assert "look at ctx.cancelled, or run them in processes, which can be ended" in done.stderr


def test_what_runs_beside_a_deaf_handler_is_finished_before_the_worker_ends(deaf: Deaf) -> None:
    client = testing.memory()
    handler: Any = deaf
    worker = haulage.Worker(handler, client, concurrency=1, cancel_grace_period=0.1)
    jobs = [client.submit("deaf", timeout=BEGUN, max_attempts=1) for _ in range(2)]
    with pytest.raises(haulage.WorkerBroken, match="2 handlers go on though their jobs are over"):
        worker.run()
    assert deaf.begun == 2
    assert [job.status() for job in jobs] == [Status.ERROR, Status.ERROR]


def nested(handler: Any, body: Any, **options: Any) -> BaseException | Any:
    """The result of a job, or why its handler failed."""
    client = testing.memory()
    failures: list[BaseException] = []

    def run(given: Any, ctx: haulage.Context) -> Any:
        try:
            return handler(client, given, ctx)
        except Exception as error:
            failures.append(error)
            raise

    concurrency = options.pop("concurrency", 1)
    job = client.submit(body, max_attempts=1, **options)
    with haulage.Worker(run, client, concurrency=concurrency):
        record = job.wait(60)
    return failures[0] if failures else record.result


def child(client: haulage.Client, depth: int, ctx: haulage.Context) -> int:
    return 0 if depth == 0 else 1 + client.submit(depth - 1, group=ctx.group).result()


def test_a_wait_for_a_job_that_only_this_slot_could_run_is_an_error_at_once() -> None:
    error = nested(child, 1)
    assert isinstance(error, InvalidArgumentError)
    assert "waits in the queue default for this worker, whose only slot is taken by the job" in str(error)
    assert nested(child, 1, concurrency=2) == 1
    error = nested(child, 1, concurrency=2, group="a")
    assert "is in the same group as the job that waits for it, a, and cannot begin" in str(error)

    def itself(client: haulage.Client, _: Any, ctx: haulage.Context) -> Any:
        return client.job(ctx.job_id).result()

    assert "waits for itself, and would for ever" in str(nested(itself, 1, concurrency=2))


def test_a_wait_that_may_end_is_left_alone() -> None:
    def with_timeout(client: haulage.Client, _: Any, __: haulage.Context) -> Any:
        with pytest.raises(haulage.WaitTimeoutError):
            client.submit(0).result(timeout=0.05)
        client.job(client.submit(0, delay=3600).id).cancel()
        return "no"

    assert nested(with_timeout, 1) == "no"

    def of_another_queue(client: haulage.Client, _: Any, __: haulage.Context) -> Any:
        with haulage.Worker(lambda body: body, client, queues="other"):
            return client.submit("there", queue="other").result()

    assert nested(of_another_queue, 1) == "there"

    def elsewhere(_: haulage.Client, __: Any, ___: haulage.Context) -> Any:
        other = testing.memory()
        with haulage.Worker(lambda body: body, other):
            return other.submit("over there").result()

    assert nested(elsewhere, 1) == "over there"


def test_async_handlers_and_child_processes_are_told_too(
    client: haulage.Client, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = testing.memory()

    async def handler(body: int) -> Any:
        return await memory.submit(body)

    with haulage.Worker(handler, memory):
        job = memory.submit(1, max_attempts=1)
        with pytest.raises(haulage.JobFailedError, match="whose only slot is taken"):
            asyncio.run(asyncio.wait_for(job.result_async(), 60))
    (tmp_path / "nested.py").write_text(
        "import haulage\n"
        f"client = haulage.connect({url!r})\n"
        "def handler(body):\n    return client.submit(body).result()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    job = client.submit(1, max_attempts=1)
    with haulage.Worker("nested:handler", client, processes=1):
        record = job.wait(60)
    assert "whose only slot is taken" in str(record.error)

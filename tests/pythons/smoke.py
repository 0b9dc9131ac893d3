"""What differs from one Python to the next, run on one of them: annotations, event loops, threads,
processes, and the interface of `Consumer` and `Producer`.

Run by run.py in an empty folder. It is also the module that its workers load.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, Optional

import haulage

# So long until it fails rather than hangs, in seconds.
SOON = 120.0


@dataclass
class Page:
    """A body with what has changed in `typing`."""

    title: str
    words: list[str]
    author: Optional[str] = None
    counts: dict[str, int] = field(default_factory=dict)


@haulage.task
def count(page: Page) -> dict[str, int]:
    """In a thread."""
    return {word: page.words.count(word) for word in page.words}


@haulage.task(queue="async")
async def later(number: int) -> int:
    """In an event loop."""
    await asyncio.sleep(0)
    return number + 1


@haulage.worker
def pid(body: object) -> int:
    """In a child process."""
    return os.getpid()


def tasks(client: haulage.Client) -> None:
    """Tasks, and jobs in parts of the interface that wait in an event loop."""
    with haulage.Worker([count, later], client, concurrency=4):
        job = count.using(client).submit(Page("Hamlet", ["words", "words"]))
        assert job.result(SOON) == {"words": 2}
        wrong = client.submit({"page": {"title": 1, "words": []}}, task="count").wait(SOON)
        assert wrong.error is not None and '["title"] is an int' in wrong.error, wrong.error

        async def in_loop() -> list[int]:
            on_client = later.using(client)
            job = await on_client.submit_async(1)
            assert await job == 2
            return [result async for result in on_client.map_async(range(20))]

        assert asyncio.run(in_loop()) == list(range(1, 21))
        copy = pickle.loads(pickle.dumps(job.record()))
        assert copy == job.record() and copy.to_dict()["task"] == "count"


def processes(url: str) -> None:
    """A worker with child processes, as one starts it in a shell."""
    client = haulage.connect(url)
    jobs = client.submit_many(range(8))
    words = ["worker", "--url", url, "--python", "smoke:pid", "--processes", "2", "--until-empty"]
    subprocess.run([sys.executable, "-m", "haulage", *words], check=True, timeout=SOON)
    assert os.getpid() not in {job.result(SOON) for job in jobs}


def compat() -> None:
    """The interface of earlier programs."""
    records = haulage.DynamoDBClient(table="results")

    def compute_result(body: Any, message_id: str) -> Any:
        return {"double": body["number"] * 2}

    consumer = haulage.Consumer("jobs.fifo", ddb_client=records, compute_result=compute_result)
    consumer.start_consuming()
    response = haulage.Producer("jobs.fifo", ddb_client=records).post({"number": 4})
    consumer.stop_consuming()
    assert (response.status_code, response.result) == (200, {"double": 8})
    assert haulage.get_app(consumer) is not None


if __name__ == "__main__":
    with haulage.connect("sqlite://tasks.db") as of_tasks:
        tasks(of_tasks)
    processes("sqlite://processes.db")
    os.environ["HAULAGE_URL"] = "sqlite://{queue}.db"
    compat()

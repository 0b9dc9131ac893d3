"""Of which job a log line is."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import haulage
import pytest
from haulage import _haulage

from support import SOON, starting

log = logging.getLogger("handler")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    filter_ = haulage.JobFilter()
    caplog.handler.addFilter(filter_)
    caplog.set_level(logging.INFO)
    yield caplog
    caplog.handler.removeFilter(filter_)


def of(lines: pytest.LogCaptureFixture, message: str) -> list[tuple[Any, ...]]:
    """The jobs of the lines that begin so."""
    found = [record for record in lines.records if record.getMessage().startswith(message)]
    return [(vars(record)["job_id"], vars(record)["request_id"], vars(record)["attempt"]) for record in found]


def test_a_line_of_a_handler_is_of_its_job(url: str, lines: pytest.LogCaptureFixture) -> None:
    def handler(body: int) -> str:
        log.info("in a thread")
        job = haulage.current_job()
        assert job is not None
        return job.job_id

    client = haulage.connect(url)
    with haulage.Worker(handler, url, concurrency=2):
        jobs = [client.submit(n, request_id=f"r-{n}") for n in range(3)]
        assert [job.result(SOON) for job in jobs] == [job.id for job in jobs]
    assert sorted(of(lines, "in a thread")) == sorted((job.id, f"r-{n}", 1) for n, job in enumerate(jobs))
    log.info("outside")
    assert of(lines, "outside") == [("", "", 0)] and haulage.current_job() is None


def test_a_line_of_a_task_and_of_a_batch_is_of_their_jobs(url: str, lines: pytest.LogCaptureFixture) -> None:
    async def task(body: int) -> int:
        log.info("in a task")
        return body

    def batch(bodies: list[int]) -> list[int]:
        log.info("in a batch")
        assert haulage.current_job() is None or len(bodies) == 1
        return bodies

    client = haulage.connect(url)
    first = client.submit(1)
    with haulage.Worker(task, url):
        first.result(SOON)
    jobs = [client.submit(n) for n in range(2)]
    with haulage.Worker(batch, url, max_batch_size=2):
        for job in jobs:
            job.result(SOON)
    assert of(lines, "in a task") == [(first.id, first.id, 1)]
    assert sorted(id_ for ids, _, _ in of(lines, "in a batch") for id_ in ids.split(",")) == sorted(
        job.id for job in jobs
    )


def test_what_the_worker_tells_of_a_job_has_its_id_too(url: str, lines: pytest.LogCaptureFixture) -> None:
    def broken(body: int) -> None:
        raise haulage.Fail("of no use")

    client = haulage.connect(url)
    with haulage.Worker(broken, url):
        job = client.submit(1, request_id="r-1")
        with pytest.raises(haulage.JobFailedError):
            job.result(SOON)
    # A thread of its own writes what the core logs.
    _haulage.logs_written(SOON)
    assert of(lines, "failed") == [(job.id, "r-1", 1)]


@pytest.mark.parametrize("more", [[], ["--processes", "1"]])
def test_the_log_of_the_command_line_tells_the_job(url: str, tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "tasks.py").write_text(
        "import logging\ndef work(body):\n    logging.getLogger('mine').info('at work')\n"
    )
    job = haulage.connect(url).submit(1, request_id="r-1")
    words = ["haulage", "--url", url, "worker", "--python", "tasks:work", "--until-empty", *more]
    with starting(tmp_path, sys.executable) as start:
        text = start("-m", *words, "--log-format", "json").communicate(timeout=SOON)[1]
        (line,) = [found for found in map(json.loads, text.splitlines()) if found["message"] == "at work"]
        assert (line["job_id"], line["request_id"], line["attempt"]) == (job.id, "r-1", 1)
        again = haulage.connect(url).submit(2)
        text = start("-m", *words).communicate(timeout=SOON)[1]
    assert f"INFO mine: at work job_id={again.id} attempt=1\n" in text

"""Named tasks: calls that are jobs, and workers that serve several."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import pickle
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import haulage
import pytest
from haulage import Status, testing
from haulage._worker import router as routing

import typed_tasks
from support import SOON, Program, starting, until
from typed_tasks import (
    Box,
    Colour,
    Options,
    Page,
    anything,
    app,
    embed,
    fetch,
    page_title,
    page_titles,
    read,
    whose,
)

PAGE = Page(
    title="ä",
    boxes=[Box(1), Box(2, 3)],
    weights={"a": 0.5, "b": 2},
    colour=Colour.RED,
    at=datetime(2026, 1, 2, 3, 4, 5, 6, timezone.utc),
    next=Page("next", []),
)


def has_attempts(job: haulage.JobHandle[Any], count: int) -> bool:
    return job.record().attempt >= count


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Program]:
    """Starts commands, in a folder with the module `tasks`."""
    (tmp_path / "tasks.py").write_text(
        "import haulage\nfrom typed_tasks import app, embed\n\n"
        "@haulage.task(queue='bulk', max_attempts=1)\n"
        "def double(number: int) -> int:\n    return 2 * number\n\n"
        "@haulage.task\ndef resubmit(number: int) -> str:\n    return double.submit(number).id\n"
    )
    (tmp_path / "empty.py").write_text("import haulage\nfrom tasks import double\n")
    folders = [str(tmp_path), str(Path(typed_tasks.__file__).parent), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(folder for folder in folders if folder)
    with starting(tmp_path, sys.executable, "-m", "haulage", "--url", url) as start:
        yield lambda *words, **more: start(*words, env={**os.environ, "PYTHONPATH": path}, **more)


def test_a_call_is_the_function() -> None:
    assert embed("abc", scale=2) == [6.0]
    assert embed.__name__ == "embed" and embed.__doc__ == "Takes what can be written down."
    assert asyncio.run(fetch("a")) == {"a": os.getpid()}
    assert whose() == "no job"


def test_run_here_it_sees_what_a_job_would() -> None:
    assert embed.local("abc", scale=2) == [6]
    assert fetch.local("a") == {"a": os.getpid()}
    assert read.local(PAGE, Options(language="en")) == (PAGE, Options(language="en"))
    with pytest.raises(haulage.InvalidJSONError, match=r'the body\["text"\] is of type bytes'):
        embed.local(b"abc")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(haulage.InvalidArgumentError, match=r'the body\["text"\] is an int, not a str'):
        embed.local(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("options", [{"concurrency": 2}, {"processes": 2}])
def test_a_worker_serves_several(client: haulage.Client, options: dict[str, Any]) -> None:
    with haulage.Worker([embed, read, whose, anything], client, **options):
        assert embed.using(client).submit("abc").result(SOON) == [3]
        job = read.using(client).submit(PAGE, Options(language="en", limit=3))
        assert job.result(SOON) == (PAGE, Options(language="en", limit=3))
        record = job.record()
        assert (record.task, record.queue, record.max_attempts) == ("read page", "gpu", 1)
        assert record.to_dict()["task"] == "read page"
        assert [one.id for one in client.records(task="read page")] == [job.id]
        named = whose.using(client).submit()
        assert named.result(SOON) == f"whose {named.id}"
        assert anything.using(client).submit(a=1, b=None).result(SOON) == {"a": 1, "b": None}
        # As programs in other languages submit it.
        assert client.submit({"text": "ab", "scale": 3}, task="embed").result(SOON) == [6]


@pytest.mark.parametrize("options", [{"concurrency": 2}, {"processes": 1}])
def test_tasks_that_are_async(client: haulage.Client, options: dict[str, Any]) -> None:
    async def all_of_it() -> None:
        task = fetch.using(client)
        assert list(await (await task.submit_async("a"))) == ["a"]
        names = [name async for result in task.map_async("abc", wait_timeout=SOON) for name in result]
        assert names == ["a", "b", "c"]

    with haulage.Worker(fetch, client, **options):
        asyncio.run(all_of_it())
        assert list(fetch.using(client).submit("b").result(SOON)) == ["b"]


@pytest.mark.parametrize("options", [{"concurrency": 3}, {"processes": 1}])
def test_tasks_of_which_some_are_async(client: haulage.Client, options: dict[str, Any]) -> None:
    with haulage.Worker([fetch, embed, whose], client, **options):
        assert list(fetch.using(client).submit("a").result(SOON)) == ["a"]
        named = whose.using(client).submit()
        assert named.result(SOON) == f"whose {named.id}"
        bad = client.submit({"text": 3}, task="embed").wait(SOON)
        assert bad.error_kind == "invalid_body"


def test_one_that_is_not_async_keeps_no_other_waiting_and_may_end_when_it_is_cancelled(
    client: haulage.Client,
) -> None:
    @haulage.task
    def wait() -> bool:
        job = haulage.current_job()
        assert job is not None
        return job.wait_cancelled(SOON)

    with haulage.Worker([wait, fetch], client, concurrency=2):
        waiting = wait.using(client).submit()
        until(lambda: waiting.status() is Status.IN_PROGRESS)
        assert list(fetch.using(client).submit("a").result(SOON)) == ["a"]
        waiting.cancel()
        # As in a worker's other threads: what it returns after all is its result.
        assert waiting.result(SOON) is True


def test_a_map_has_results_in_order_and_with_their_types(client: haulage.Client) -> None:
    @haulage.task(max_attempts=1)
    def box(left: int) -> Box:
        if left == 2:
            raise haulage.Fail("two")
        return Box(left)

    with haulage.Worker(box, client, concurrency=4):
        task = box.using(client)
        assert list(task.map([1, 3], wait_timeout=SOON)) == [Box(1), Box(3)]
        first, second, third = task.map([1, 2, 3], return_exceptions=True)
        assert (first, str(second), third) == (Box(1), "two", Box(3))
        with pytest.raises(haulage.JobFailedError, match="two"):
            list(task.map([2]))


def test_it_submits_where_haulage_url_says(haulage_url: str, client: haulage.Client) -> None:
    job = embed.submit("a")
    assert client.record(job.id).task == "embed"
    assert embed.client is whose.client
    other = testing.memory()
    assert embed.using(other).client is other
    assert embed.using(haulage_url).client.url == haulage_url


def test_what_has_another_client_or_options_is_the_same_task(client: haulage.Client) -> None:
    variant = embed.using(client, delay=3600, queue="slow")
    record = variant.submit("a").record()
    assert (record.task, record.queue, record.status) == ("embed", "slow", Status.SUBMITTED)
    assert record.due_at is not None and (record.due_at - record.submitted_at).total_seconds() == 3600
    assert "delay" not in embed.options
    with pytest.raises(haulage.InvalidArgumentError, match="max_attempts is 0"):
        embed.using(max_attempts=0)
    with pytest.raises(TypeError, match="text"):
        embed.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert pickle.loads(pickle.dumps(embed)) is embed
    again = pickle.loads(pickle.dumps(variant))
    assert (again.options, again.client.url) == (variant.options, client.url)
    job = pickle.loads(pickle.dumps(read.using(client).submit(PAGE)))
    with haulage.Worker(read, client):
        assert job.result(SOON) == (PAGE, None)


@pytest.mark.parametrize("processes", [0, 1])
def test_a_task_that_is_not_served_here_is_given_back(
    client: haulage.Client, processes: int, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [client.submit({}, task="encode", max_attempts=1), client.submit({}, max_attempts=1)]
    words = ("its task encode is not served here", "it names no task")
    caplog.set_level(logging.WARNING, "haulage.tasks")
    with haulage.Worker([embed, whose], client, processes=processes):
        for job, why in zip(jobs, words):
            until(functools.partial(has_attempts, job, 2))
            record = job.record()
            assert record.error_kind == "released" and record.uncounted >= 1
            assert record.error == f"{why}: this worker serves embed, whose"
        assert embed.using(client).submit("abc").result(SOON) == [3]
    if not processes:
        told = [record.getMessage() for record in caplog.records if record.name == "haulage.tasks"]
        assert sorted(told) == [
            "jobs of the task encode are given back: this worker serves embed, whose",
            "jobs that name no task are given back: this worker serves embed, whose",
        ]


def test_the_pause_grows_from_a_second_to_a_minute() -> None:
    router = routing.Router([embed, whose])
    pauses = [router._unknown("another", attempt).after for attempt in (1, 2, 3, 6, 7, 1000)]
    assert pauses == [1, 2, 4, 32, 60, 60]


def test_the_only_task_gets_jobs_without_a_name_and_no_others() -> None:
    with testing.inline(embed) as client:
        assert client.submit({"text": "ab"}).result() == [2]
        with pytest.raises(haulage.HaulageError, match="the handler puts them off"):
            client.submit({"text": "ab"}, task="another")


WRONG: list[tuple[Any, str]] = [
    ("a", "the body is a str, and task read page takes page, options by name"),
    ({}, 'the body["page"] is missing, and task read page needs it'),
    ({"pge": 1}, 'the body["pge"] is unknown to task read page, which has page, options'),
    (
        {"page": []},
        'the body["page"] is a list, and a Page takes title, boxes, weights, colour, at, next by name',
    ),
    ({"page": {"title": "a"}}, 'the body["page"]["boxes"] is missing, and a Page needs it'),
    (
        {"page": {"title": "a", "boxes": [{"left": 1}, {"left": "2"}]}},
        'the body["page"]["boxes"][1]["left"] is a str, not an int',
    ),
    (
        {"page": {"title": "a", "boxes": [{"left": -1}]}},
        'the body["page"]["boxes"][0] does not fit Box: ValueError: left of the page',
    ),
    ({"page": {"title": True, "boxes": []}}, 'the body["page"]["title"] is a bool, not a str'),
    (
        {"page": {"title": "a", "boxes": [], "weights": {"x": "1"}}},
        'the body["page"]["weights"]["x"] is a str, not a float',
    ),
    (
        {"page": {"title": "a", "boxes": [], "colour": "green"}},
        'the body["page"]["colour"] is \'green\', which no Colour is',
    ),
    (
        {"page": {"title": "a", "boxes": [], "next": {"title": "b", "boxes": None}}},
        'the body["page"]["next"]["boxes"] is null, not a list',
    ),
    (
        {"page": {"title": "a", "boxes": []}, "options": {"language": "en", "limit": "many"}},
        'the body["options"]["limit"] does not fit Options: Input should be a valid integer',
    ),
]


@pytest.mark.parametrize(("body", "why"), WRONG)
def test_a_body_that_does_not_fit_ends_its_job(body: Any, why: str) -> None:
    with testing.inline(read) as client:
        record = client.submit(body, task="read page", queue="gpu", max_attempts=3).wait()
    assert (record.status, record.error_kind, record.attempt) == (Status.ERROR, "invalid_body", 1)
    assert record.error is not None and why in record.error


@pytest.mark.parametrize("options", [{}, {"processes": 1}])
def test_the_body_of_a_function_is_parsed_where_it_asks_for_a_dataclass(
    client: haulage.Client, options: dict[str, Any]
) -> None:
    good = {"title": "good", "boxes": []}
    for handler in (page_title, page_titles):
        jobs = client.submit_many([good, {"title": "bad"}, good], max_attempts=3)
        with haulage.Worker(handler, client, **options):
            first, bad, last = client.wait(jobs, SOON)
        assert (first.result, last.result) == ("good", "good")
        assert (bad.error_kind, bad.attempt) == ("invalid_body", 1)
        assert bad.error is not None and 'the body["boxes"] is missing' in bad.error


def test_a_batch_of_which_none_fits_is_not_called(client: haulage.Client) -> None:
    sizes: list[int] = []

    async def titles(bodies: list[Page]) -> list[str]:
        sizes.append(len(bodies))
        return [body.title for body in bodies]

    with haulage.Worker(titles, client, max_batch_size=2, batch_timeout=0.05):
        bad = client.wait(client.submit_many([1, {"title": 2, "boxes": []}]), SOON)
        assert [record.error_kind for record in bad] == ["invalid_body"] * 2
        good = client.submit_many([3, {"title": "a", "boxes": []}])
        assert [record.error_kind for record in client.wait(good, SOON)] == ["invalid_body", None]
        assert good[1].result() == "a"
    assert 0 not in sizes


def test_annotations_of_a_function_that_are_not_for_parsing_are_left_alone() -> None:
    if TYPE_CHECKING:
        from decimal import Decimal as Unknown

    def text(body: str) -> Any:
        return body

    def unknown(body: Unknown) -> Any:
        return body

    for handler in (text, unknown):
        with testing.inline(handler) as client:
            assert client.submit(3).result() == 3


def test_a_result_that_is_something_else_is_told_where_it_is_read(client: haulage.Client) -> None:
    @haulage.task(name="liar")
    def liar(number: int) -> Box:
        return number  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    with haulage.Worker(liar, client):
        job = liar.using(client).submit(3)
        words = (
            f"job {job.id}: the result is an int, and a Box takes left, top by name; that is not what task"
        )
        with pytest.raises(haulage.ResultTypeError, match=words):
            job.result(SOON)
        assert job.record().result == 3
        with pytest.raises(haulage.ResultTypeError):
            list(liar.using(client).map([3]))
        (error,) = liar.using(client).map([3], return_exceptions=True)
        assert isinstance(error, haulage.ResultTypeError) and error.job_id != job.id


def test_what_cannot_be_a_task_is_refused() -> None:
    def many(*numbers: int) -> None: ...

    def other(left: int) -> None: ...

    with pytest.raises(ValueError, match=r"has the parameter \*numbers: 'int', which a caller cannot name"):
        haulage.task(many)
    with pytest.raises(haulage.InvalidArgumentError, match="max_attempts is 0"):
        haulage.task(max_attempts=0)(other)
    with pytest.raises(haulage.InvalidArgumentError, match="a worker has no option delay"):
        haulage.App(delay=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(
        haulage.InvalidArgumentError, match=r"two tasks are called embed, typed_tasks\.embed and "
    ):
        haulage.Worker([embed, haulage.task(name="embed")(other)])
    with pytest.raises(haulage.InvalidArgumentError, match="is not a task; a worker of several"):
        haulage.Worker([embed, other])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    with pytest.raises(haulage.InvalidArgumentError, match="needs one task at least"):
        haulage.Worker([])
    with pytest.raises(haulage.InvalidArgumentError, match="max_batch_size means nothing to it"):
        haulage.Worker(embed, max_batch_size=2)

    @haulage.task
    def unknown(body: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore

    with pytest.raises(
        haulage.InvalidArgumentError, match="annotation of body, 'Nowhere', cannot be evaluated"
    ):
        haulage.Worker(unknown)


def test_an_app_has_the_options_of_its_worker(client: haulage.Client) -> None:
    jobs = [whose.using(client).submit(), anything.using(client).submit(a=1)]
    assert haulage.Worker(app, client).run()["succeeded"] == 2
    assert [job.result(SOON) for job in jobs] == [f"whose {jobs[0].id}", {"a": 1}]
    whose.using(client).submit()
    assert haulage.Worker(app, client, processes=1).run()["succeeded"] == 1


@pytest.mark.parametrize("more", [(), ("--processes", "1")])
def test_a_module_is_the_tasks_that_it_defines(
    start: Program, client: haulage.Client, more: tuple[str, ...]
) -> None:
    start("worker", "--python", "tasks", *more)
    job = client.submit({"number": 4}, task="double", queue="bulk")
    assert job.result(SOON) == 8
    # What a task submits goes where the worker's jobs are.
    inner = client.submit({"number": 5}, task="resubmit").result(SOON)
    assert client.job(inner).result(SOON) == 10
    imported = client.submit({"text": "a"}, task="embed")
    until(
        lambda: (
            imported.record().error
            == "its task embed is not served here: this worker serves double, resubmit"
        )
    )


def test_the_command_line_submits_and_serves_tasks(start: Program) -> None:
    def run(*words: str) -> tuple[str, str, int]:
        process = start(*words)
        output, errors = process.communicate(timeout=SOON)
        return output, errors, process.returncode

    job = run("submit", "--task", "whose", "{}")[0].strip()
    assert "worker stopped: 1 succeeded" in run("worker", "--python", "tasks:app")[1]
    assert json.loads(run("result", job)[0]) == f"whose {job}"
    _, errors, code = run("worker", "--python", "empty")
    assert (
        code == 2 and "empty defines no tasks, functions under @haulage.task; name a function of it" in errors
    )

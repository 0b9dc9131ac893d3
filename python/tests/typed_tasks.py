"""Tasks as a program has them, and what type checkers know of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Optional, Union

import haulage
import pydantic


class Colour(Enum):
    """Of ink."""

    BLACK = "black"
    RED = "red"


@dataclass
class Box:
    """A part of a page."""

    left: int
    top: int = 0

    def __post_init__(self) -> None:
        if self.left < 0:
            raise ValueError("left of the page")


@dataclass
class Page:
    """What is read."""

    title: str
    boxes: list[Box]
    weights: dict[str, float] = field(default_factory=dict[str, float])
    colour: Colour = Colour.BLACK
    at: Optional[datetime] = None
    next: Optional[Page] = None


class Options(pydantic.BaseModel):
    """How it is read."""

    language: str
    limit: int = 10


app = haulage.App(concurrency=2, until_empty=True)


@haulage.task(max_attempts=1)
def embed(text: str, *, scale: float = 1.0) -> list[float]:
    """Takes what can be written down."""
    return [len(text) * scale]


@haulage.task(name="read page", queue="gpu", max_attempts=1)
def read(page: Page, options: Optional[Options] = None) -> tuple[Page, Optional[Options]]:
    """Takes a dataclass and a model, and returns them."""
    assert isinstance(page, Page)
    assert all(isinstance(box, Box) for box in page.boxes)
    assert options is None or isinstance(options, Options)
    return page, options


@haulage.task
async def fetch(address: str) -> dict[str, int]:
    """Has to be awaited."""
    await asyncio.sleep(0)
    return {address: os.getpid()}


@app.task
def whose() -> str:
    """Which job this is."""
    job = haulage.current_job()
    return "no job" if job is None else f"{job.task} {job.job_id}"


@app.task(name="any", max_attempts=1)
def anything(**names: Union[int, None]) -> object:
    """Takes what it is given."""
    return names


@haulage.worker
def page_title(body: Page) -> str:
    """No task: the body is the page."""
    return body.title


@haulage.worker(max_batch_size=4, batch_timeout=0.05)
def page_titles(bodies: list[Page]) -> list[str]:
    """A batch of such."""
    return [body.title for body in bodies]


if TYPE_CHECKING:
    from typing_extensions import assert_type

    def _types(client: haulage.Client) -> None:
        assert_type(embed("a", scale=2), list[float])
        assert_type(embed.local("a"), list[float])
        assert_type(embed.submit("a"), haulage.JobHandle[list[float]])
        assert_type(embed.using(client, delay=1).submit("a", scale=2.0).result(), list[float])
        assert_type(embed.map(["a", "b"]), Iterator[list[float]])
        assert_type(embed.map(["a"], return_exceptions=True), Iterator[Union[list[float], Exception]])
        assert_type(read.submit(Page("a", [])).result(), tuple[Page, Optional[Options]])
        assert_type(fetch.local("a"), dict[str, int])
        assert_type(fetch.submit("a").result(), dict[str, int])
        assert_type(whose.submit().result(), str)
        assert_type(client.submit({"text": "a"}, task="embed"), haulage.JobHandle[Any])
        handle: haulage.JobHandle[object] = whose.submit()
        client.wait([handle, embed.submit("a")])
        haulage.Worker([embed, read], client, concurrency=2)
        haulage.Worker(fetch, client)
        haulage.Worker(app)
        embed.submit(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        embed.submit("a", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        embed.map([1])  # pyright: ignore[reportArgumentType]
        embed.using(delya=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        haulage.task(task="name")(whose.function)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

    async def _async_types() -> None:
        assert_type(await fetch("a"), dict[str, int])
        assert_type(await (await fetch.submit_async("a")), dict[str, int])
        assert_type(await embed.submit("a"), list[float])
        assert_type(embed.map_async(["a"]), AsyncIterator[list[float]])

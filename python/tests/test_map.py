"""What `map` does in parts: it waits for the next results only once those before them are taken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import haulage
import pytest
from haulage import _client

from support import SOON

# Seven jobs are three parts then.
PART = 3
BODIES = range(7)

Map = Callable[..., Iterator[Any]]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_client, "_PART", PART)


@pytest.fixture(params=["map", "map_async"])
def mapped(request: pytest.FixtureRequest, client: haulage.Client) -> Iterator[Map]:
    """`map`, and `map_async` in a loop of its own, one result at a time."""
    if request.param == "map":
        yield client.map
        return
    loop = asyncio.new_event_loop()

    def in_loop(*args: Any, **options: Any) -> Iterator[Any]:
        results = client.map_async(*args, **options)
        while True:
            try:
                yield loop.run_until_complete(results.__anext__())
            except StopAsyncIteration:
                return

    yield in_loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def test_results_keep_their_order_whichever_job_ends_first(client: haulage.Client, mapped: Map) -> None:
    ended = [threading.Event() for _ in range(3)]

    def last_first(body: int) -> int:
        end = ended[body // PART]
        if body in (2, 5, 6):
            end.set()
        assert end.wait(SOON)
        return body * 2

    with haulage.Worker(last_first, client, concurrency=len(BODIES)):
        assert list(mapped(BODIES, wait_timeout=SOON)) == [body * 2 for body in BODIES]


def test_an_error_comes_in_its_turn_also_behind_the_first_part(client: haulage.Client, mapped: Map) -> None:
    def five_fails(body: int) -> int:
        if body == 5:
            raise haulage.Fail("five")
        return body

    with haulage.Worker(five_fails, client):
        results = mapped(BODIES, return_exceptions=True)
        assert [str(result) for result in results] == ["0", "1", "2", "3", "4", "five", "6"]
        results = mapped(BODIES)
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(haulage.JobFailedError, match="five"):
            next(results)


@pytest.fixture
def asked(client: haulage.Client, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float | None]]:
    """For how many jobs each wait of the client is, and for how long."""
    core, asked = client._core, []

    class Core:
        def __getattr__(self, name: str) -> Any:
            return getattr(core, name)

        def wait(self, ids: list[str], timeout: float | None) -> Any:
            asked.append((len(ids), timeout))
            return core.wait(ids, timeout)

    monkeypatch.setattr(client, "_core", Core())
    return asked


@pytest.fixture
def working(client: haulage.Client) -> Iterator[None]:
    with haulage.Worker(lambda body: body, haulage.connect(client.url), concurrency=len(BODIES)):
        yield


@pytest.mark.usefixtures("working")
def test_no_more_results_are_held_than_a_part_has(mapped: Map, asked: list[tuple[int, float | None]]) -> None:
    results = mapped(BODIES)
    seen = [(next(results), len(asked)) for _ in BODIES]
    # The next ones are asked for once the last of those before them is taken.
    assert seen == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3)]
    assert asked == [(3, None), (3, None), (1, None)]


@pytest.mark.usefixtures("working")
def test_the_time_is_that_of_all_parts_together(
    mapped: Map, asked: list[tuple[int, float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(_client, "time", SimpleNamespace(monotonic=lambda: now))
    for result in mapped(BODIES, wait_timeout=3 * SOON):
        if result in (2, 5):
            now += SOON
    assert asked == [(3, 3 * SOON), (3, 2 * SOON), (1, SOON)]

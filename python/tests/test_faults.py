"""Whatever a handler does, its job comes to an end, and its worker goes on."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import haulage
import pytest
from haulage import Status, testing

from support import SOON

# As of a file name that is not UTF-8.
SURROGATE = os.fsdecode(b"caf\xe9.png")


class HalfMadeRetry(haulage.Retry):
    def __init__(self) -> None:
        pass


class Unspeakable(haulage.Fail):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def fail_with_a_surrogate() -> None:
    raise haulage.Fail(f"bad file {SURROGATE}")


def retry_with_a_surrogate() -> None:
    raise haulage.Retry(f"bad file {SURROGATE}")


def retry_of_no_time(after: Any) -> Callable[[], None]:
    def raising() -> None:
        raise haulage.Retry("no GPU is free", after=after)

    return raising


def half_made_retry() -> None:
    raise HalfMadeRetry


def unspeakable() -> None:
    raise Unspeakable


CASES: dict[str, tuple[Callable[[], None], str]] = {
    "fail with a surrogate": (fail_with_a_surrogate, "bad file caf?.png"),
    "retry with a surrogate": (retry_with_a_surrogate, "bad file caf?.png"),
    "negative": (retry_of_no_time(-1), "no GPU is free\n\n(The handler asked to be called again after -1,"),
    "text": (retry_of_no_time("5m"), "after '5m', which is not a length of time"),
    "nan": (retry_of_no_time(float("nan")), "after nan"),
    "decimal": (retry_of_no_time(Decimal("0.001")), "no GPU is free"),
    "half made": (half_made_retry, ""),
    "unspeakable": (unspeakable, "Unspeakable"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["thread", "batch", "async"])
def test_no_exception_of_a_handler_stops_its_worker(client: haulage.Client, kind: str, case: str) -> None:
    raising, why = CASES[case]

    def single(body: Any) -> Any:
        return raising() if body == "bad" else body

    def batch(bodies: list[Any]) -> Any:
        return [single(body) for body in bodies]

    async def later(body: Any) -> Any:
        return single(body)

    handlers: dict[str, Callable[..., Any]] = {"thread": single, "batch": batch, "async": later}
    size = 1 if kind == "batch" else None
    with haulage.Worker(handlers[kind], client, max_batch_size=size, retry_base=0):
        record = client.submit("bad", max_attempts=2).wait(SOON)
        assert record.status is Status.ERROR
        assert record.error is not None and why in record.error
        assert client.submit("good").result(SOON) == "good"


class NotForThis(type):
    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("cannot tell")


class Odd(Exception, metaclass=NotForThis):
    pass


@pytest.mark.parametrize("is_async", [False, True])
def test_a_fault_around_the_handler_ends_the_call(client: haulage.Client, is_async: bool) -> None:
    def handler(body: Any) -> Any:
        if body == "bad":
            raise ValueError(body)
        return body

    async def later(body: Any) -> Any:
        return handler(body)

    chosen = later if is_async else handler
    with haulage.Worker(chosen, client, non_retryable=(Odd,), retry_base=0):
        record = client.submit("bad", max_attempts=2).wait(SOON)
        assert record.error is not None and record.error.startswith("the worker could not carry out the call")
        assert "cannot tell" in record.error and record.attempt == 2
        assert client.submit("good").result(SOON) == "good"


@pytest.mark.parametrize("errors", [ValueError, ("ValueError",), [3], "ValueError"], ids=repr)
def test_non_retryable_is_checked_before_the_first_failure(errors: Any) -> None:
    with pytest.raises(haulage.InvalidArgumentError, match="a tuple of classes of exceptions"):
        haulage.worker(non_retryable=errors)
    with pytest.raises(haulage.InvalidArgumentError, match="a tuple of classes of exceptions"):
        haulage.Worker(len, testing.memory(), non_retryable=errors)


def test_a_batch_heeds_non_retryable_for_exceptions_that_are_returned() -> None:
    def handler(bodies: list[int]) -> list[Any]:
        return [KeyError("no such model") for _ in bodies]

    with testing.inline(handler, max_batch_size=2, non_retryable=(LookupError,)) as client:
        record = client.submit(1).record()
    assert (record.status, record.attempt) == (Status.ERROR, 1)


@pytest.mark.parametrize("unordered", [set, frozenset])
def test_a_batch_must_not_return_what_has_no_order(unordered: Callable[[list[int]], Any]) -> None:
    with testing.inline(lambda bodies: unordered(bodies), max_batch_size=2) as client:
        record = client.submit(1).record()
    assert record.error is not None and "it has to return a list" in record.error


@pytest.fixture
def long_body(client: haulage.Client) -> Iterator[list[haulage.JobHandle[Any]]]:
    """Two jobs, the first with an integer that Python does not read."""
    jobs = client.submit_many([int("7" * 4000), 1])
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(3000)
    yield jobs
    sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("kind", ["thread", "batch", "async", "async batch"])
def test_a_body_that_cannot_be_decoded_ends_its_job_alone(
    client: haulage.Client, kind: str, long_body: list[haulage.JobHandle[Any]]
) -> None:
    async def later(body: Any) -> Any:
        return body

    handler: Callable[..., Any] = later if "async" in kind else lambda body: body
    with haulage.Worker(handler, client, max_batch_size=2 if "batch" in kind else None):
        bad, good = client.wait(long_body, SOON)
    assert (bad.status, bad.error_kind, bad.attempt) == (Status.ERROR, "invalid_body", 1)
    assert bad.error is not None and "the body cannot be decoded: ValueError" in bad.error
    assert good.result == 1


def test_a_value_that_cannot_be_read_is_told_so(
    client: haulage.Client, long_body: list[haulage.JobHandle[Any]]
) -> None:
    record = client.record(long_body[0].id, body=True)
    with pytest.raises(haulage.InvalidJSONError, match=r"the body cannot be decoded: .*4000 digits"):
        _ = record.body


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_ends_a_program_does_not_end_the_event_loop(
    client: haulage.Client, error: BaseException
) -> None:
    gone: list[asyncio.Task[None]] = []

    async def stray() -> None:
        raise error

    async def handler(body: str) -> str:
        if body == "raise":
            raise error
        if body == "stray":
            gone.append(asyncio.create_task(stray()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return body

    with haulage.Worker(handler, client, concurrency=2, retry_base=0):
        record = client.submit("raise", max_attempts=2).wait(SOON)
        assert (record.status, record.attempt) == (Status.ERROR, 2)
        assert record.error is not None and type(error).__name__ in record.error
        assert client.submit("stray").result(SOON) == "stray"
        assert client.submit("good").result(SOON) == "good"
    assert gone[0].exception() is error


@pytest.mark.parametrize("is_async", [False, True])
def test_a_worker_that_has_stopped_lets_go_of_its_handler(client: haulage.Client, is_async: bool) -> None:
    class Model:
        def work(self, body: Any) -> Any:
            return body

        async def later(self, body: Any) -> Any:
            return body

    model = Model()
    with haulage.Worker(model.later if is_async else model.work, client):
        assert client.submit(1).result(SOON) == 1
    gone = weakref.ref(model)
    del model
    until = time.monotonic() + SOON
    # Its threads are on their way home.
    while gone() is not None and time.monotonic() < until:
        gc.collect()
    assert gone() is None

"""Batches by weight and key, that run out of memory, and in which each job has its own outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import haulage
import pytest
from haulage import InvalidArgumentError, Status, testing
from haulage._worker.batch import Batch, Sorting, is_out_of_memory
from haulage._worker.handler import Signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from haulage._options import WorkerOptions

MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB"


class OutOfMemoryError(RuntimeError):
    """By the name that torch has for it."""


def by(**options: Any) -> Sorting:
    given: WorkerOptions = options  # type: ignore[assignment]
    return Sorting(given)


def weighed(most: float, *weights: float) -> list[list[int]]:
    sorting = by(batch_weight=lambda body: body, max_batch_weight=most)
    return sorting.parts([(place, None, weight) for place, weight in enumerate(weights)])


def test_parts_have_similar_weights_and_no_more_than_may_be() -> None:
    assert weighed(10, 1, 6, 2, 7, 3) == [[3], [1, 4], [2, 0]]
    assert weighed(10, 4, 25, 4) == [[1], [0, 2]], "what is too heavy goes alone"
    assert weighed(10, 0, 0, 0) == [[0, 1, 2]]


def test_parts_have_one_key_each() -> None:
    sorting = by(batch_key=lambda body: body)
    assert sorting.parts([(0, "a", 0), (1, "b", 0), (2, "a", 0)]) == [[0, 2], [1]]


@dataclass
class Text:
    """A body."""

    words: str


def run(handler: Callable[..., Any], bodies: list[Any], **options: Any) -> list[Any]:
    """What became of jobs that came in together: results, or the errors' first lines."""
    client = testing.memory()
    jobs = client.submit_many(bodies, max_attempts=1)
    worker = haulage.Worker(handler, client, max_batch_size=len(bodies), until_empty=True, **options)
    worker.run()
    records = [job.record() for job in jobs]
    return [
        record.result if record.status is Status.SUCCESS else str(record.error).partition("\n")[0]
        for record in records
    ]


def test_a_call_is_handed_over_in_parts_and_each_job_gets_its_own_result() -> None:
    seen: list[list[str]] = []

    def handler(bodies: list[Text]) -> list[str]:
        seen.append([body.words for body in bodies])
        return [body.words.upper() for body in bodies]

    words = ["a", "bbbbbb", "cc", "ddddddd", "eee"]
    assert run(
        handler,
        [{"words": one} for one in words],
        batch_weight=lambda body: len(body.words),
        max_batch_weight=10,
    ) == [one.upper() for one in words]
    assert seen == [["ddddddd"], ["bbbbbb", "eee"], ["cc", "a"]]


def test_async_batches_and_those_of_child_processes_are_divided_too(
    client: haulage.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(bodies: list[int]) -> list[int]:
        return [len(bodies)] * len(bodies)

    assert run(handler, [1, 2, 1, 1], batch_key=lambda body: body) == [3, 1, 3, 3]
    (tmp_path / "parts.py").write_text(
        "import haulage\n"
        "@haulage.worker(max_batch_size=4, batch_key=lambda body: body, processes=1, until_empty=True)\n"
        "def sizes(bodies):\n    return [len(bodies)] * len(bodies)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    jobs = client.submit_many([1, 2, 1, 1])
    haulage.Worker("parts:sizes", client, processes=1).run()
    assert [job.result() for job in jobs] == [3, 1, 3, 3]


def test_a_batch_that_runs_out_of_memory_is_halved_until_it_fits() -> None:
    sizes: list[int] = []

    def handler(bodies: list[int]) -> list[int]:
        sizes.append(len(bodies))
        if len(bodies) > 2:
            raise OutOfMemoryError(MEMORY)
        return bodies

    assert run(handler, list(range(8))) == list(range(8))
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_a_job_that_is_too_large_alone_fails_alone() -> None:
    def handler(bodies: list[int]) -> list[int]:
        if 3 in bodies:
            raise MemoryError("no room for three")
        return bodies

    assert run(handler, list(range(4))) == [0, 1, 2, "MemoryError: no room for three"]


def test_other_errors_are_those_of_a_part_and_nothing_is_tried_again() -> None:
    calls: list[list[int]] = []

    def handler(bodies: list[int]) -> list[Any]:
        calls.append(bodies)
        if 1 in bodies:
            raise ValueError("one")
        return [ValueError("two") if body == 2 else body for body in bodies]

    assert run(handler, [0, 1, 2, 3], batch_key=lambda body: body // 2) == [
        "ValueError: one",
        "ValueError: one",
        "ValueError: two",
        3,
    ]
    assert calls == [[0, 1], [2, 3]]


def test_a_weight_or_key_that_cannot_be_told_is_the_error_of_that_job() -> None:
    def weight(body: int) -> float:
        return 1 / body - 1

    results = run(lambda bodies: bodies, [1, 0, 2], batch_weight=weight, max_batch_weight=5)
    assert results[0] == 1
    assert results[1] == "ZeroDivisionError: division by zero"
    assert "batch_weight returned -0.5; it is a number, 0 at least" in results[2]
    assert run(lambda bodies: bodies, [1, 2], batch_key=lambda body: [body] if body == 2 else body) == [
        1,
        "TypeError: unhashable type: 'list'",
    ]


class Unwanted:
    """The context of a job that somebody has cancelled."""

    job_id = "a"
    cancelled = True


def test_a_job_that_was_cancelled_before_its_part_began_is_not_handed_over() -> None:
    context: Any = Unwanted()
    batch = Batch(Signature(lambda bodies: bodies), by(batch_key=str), [(1, context), (2, context)], ())
    part = batch.next()
    assert part is not None
    batch.returned([1])
    assert batch.next() is None
    assert batch.answers == [("ok", 1), ("cancelled",)]


@pytest.mark.parametrize(
    ("error", "is_said"),
    [
        (OutOfMemoryError("no"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: device lost"), False),
    ],
)
def test_what_is_a_want_of_memory(error: Exception, is_said: bool) -> None:
    assert is_out_of_memory(error) is is_said


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_key": len}, "batch_key goes with max_batch_size, and there is none"),
        ({"max_batch_size": 2, "batch_weight": len}, "batch_weight and max_batch_weight go together"),
        ({"max_batch_size": 2, "batch_weight": len, "max_batch_weight": 0}, "it is a number above 0"),
        ({"max_batch_size": 2, "batch_key": "size"}, "batch_key is 'size'; it is a function of a job's body"),
        (
            {"max_batch_size": 2, "batch_key": len, "processes": 2},
            "with processes, give batch_key to @worker",
        ),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: Any, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        haulage.Worker(run, testing.memory(), **options)

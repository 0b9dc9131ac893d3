"""The jobs of a call of many: in which parts they are handed over, and what becomes of each."""

from __future__ import annotations

import gc
import logging

from .. import _haulage
from .._parse import Unfit
from ..errors import InvalidArgumentError, WorkerBroken
from .handler import failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

    from .._haulage import Context
    from .._options import WorkerOptions
    from .handler import Answer, Signature

_log = logging.getLogger("haulage.batches")


class Sorting:
    """How the jobs of a call are divided into parts: by key, and by weight."""

    __slots__ = ("_key", "_most", "_weight")

    def __init__(self, options: WorkerOptions) -> None:
        self._weight: Callable[[Any], float] | None = options.get("batch_weight")
        self._most = options.get("max_batch_weight")
        self._key: Callable[[Any], Hashable] | None = options.get("batch_key")
        if (self._weight is None) != (self._most is None):
            raise InvalidArgumentError("batch_weight and max_batch_weight go together; give both, or none")
        if self._most is not None and not self._most > 0:
            raise InvalidArgumentError(f"max_batch_weight is {self._most!r}; it is a number above 0")
        for name, function in (("batch_weight", self._weight), ("batch_key", self._key)):
            if function is not None and not callable(function):  # pyright: ignore[reportUnnecessaryComparison]
                raise InvalidArgumentError(f"{name} is {function!r}; it is a function of a job's body")

    def key(self, body: Any) -> Hashable:
        """What the jobs of one part have in common. Raises whatever the function does."""
        if self._key is None:
            return None
        key = self._key(body)
        hash(key)
        return key

    def weight(self, body: Any) -> float:
        """What a job counts for. Raises whatever the function does."""
        if self._weight is None:
            return 0.0
        weight = float(self._weight(body))
        if not weight >= 0:
            raise InvalidArgumentError(f"batch_weight returned {weight}; it is a number, 0 at least")
        return weight

    def parts(self, jobs: list[tuple[int, Hashable, float]]) -> list[list[int]]:
        """The places of these jobs, in the parts that they make, with the keys in their order.

        Within a part they have similar weights, so that little is added to make them alike; the
        heaviest part comes first, so that what is too much for the device shows early.
        """
        by_key: dict[Hashable, list[tuple[float, int]]] = {}
        for place, key, weight in jobs:
            by_key.setdefault(key, []).append((weight, place))
        parts: list[list[int]] = []
        for alike in by_key.values():
            if self._most is None:
                parts.append([place for _, place in alike])
                continue
            part: list[int] = []
            sum_of_part = 0.0
            for weight, place in sorted(alike, key=lambda one: -one[0]):
                # One that is too heavy by itself goes alone.
                if part and sum_of_part + weight > self._most:
                    parts.append(part)
                    part, sum_of_part = [], 0.0
                part.append(place)
                sum_of_part += weight
            parts.append(part)
        return parts


class Batch:
    """One call of many jobs. ``next`` gives what is to be handed over, as long as there is something;
    after each, ``returned`` or ``failed`` is to be told what came of it.
    """

    def __init__(
        self,
        signature: Signature,
        sorting: Sorting,
        jobs: list[tuple[Any, Context]],
        non_retryable: tuple[type[BaseException], ...],
    ) -> None:
        self._non_retryable = non_retryable
        self._jobs: list[tuple[Any, Context]] = []
        self._answers: list[Answer | None] = [None] * len(jobs)
        sorted_jobs: list[tuple[int, Hashable, float]] = []
        for place, (body, context) in enumerate(jobs):
            try:
                body = signature.parsed(body)
                sorted_jobs.append((place, sorting.key(body), sorting.weight(body)))
            except Unfit as error:
                self._answers[place] = failure(error, ())
            except Exception as error:
                self._answers[place] = failure(error, non_retryable)
            self._jobs.append((body, context))
        # The last one is the next.
        self._parts = sorting.parts(sorted_jobs)[::-1]
        self._part: list[int] = []
        self._has_begun = False
        self._is_out_of_memory = False

    def next(self) -> list[tuple[Any, Context]] | None:
        """The jobs of the next part; ``None`` where all have their answers."""
        if self._is_out_of_memory:
            # The exception, and with it what its frames held, is gone by now.
            self._is_out_of_memory = False
            gc.collect()
        while self._parts:
            part = self._parts.pop()
            # Those of the first part are handed over in any case, as the job of a call of one is.
            self._part = [place for place in part if not (self._has_begun and self._is_unwanted(place))]
            if self._part:
                self._has_begun = True
                return [self._jobs[place] for place in self._part]
        return None

    def _is_unwanted(self, place: int) -> bool:
        if not self._jobs[place][1].cancelled:
            return False
        self._answers[place] = ("cancelled",)
        return True

    def returned(self, results: Any) -> None:
        """The handler returned this for the part."""
        answers = batch_answers(results, len(self._part), self._non_retryable)
        for place, answer in zip(self._part, answers):
            self._answers[place] = answer

    def failed(self, error: BaseException) -> None:
        """The handler raised this for the part."""
        if isinstance(error, WorkerBroken):
            # What is left would find it no better.
            self.interrupted(error)
            return
        count = len(self._part)
        if count > 1 and is_out_of_memory(error):
            _log.warning("a batch of %d jobs ran out of memory, and is tried again in halves", count)
            self._is_out_of_memory = True
            self._parts += [self._part[count // 2 :], self._part[: count // 2]]
            return
        for place in self._part:
            self._answers[place] = failure(error, self._non_retryable)

    def interrupted(self, error: BaseException) -> None:
        """Nothing more is handed over, for this reason."""
        self._parts.clear()
        self._part = [place for place, answer in enumerate(self._answers) if answer is None]
        for place in self._part:
            self._answers[place] = failure(error, self._non_retryable)

    @property
    def answers(self) -> list[Answer]:
        """An answer for each job, in their order."""
        return [answer for answer in self._answers if answer is not None]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at once might do."""
    if isinstance(error, MemoryError):
        return True
    try:
        words = str(error)
    except Exception:
        return False
    return _haulage.is_out_of_memory(f"{type(error).__name__}: {words}")


def batch_answers(results: Any, count: int, non_retryable: tuple[type[BaseException], ...]) -> list[Answer]:
    """The answers of a batched function: one for each job, exceptions for those that failed."""
    # A set has no order, so nobody could tell which result is whose.
    if isinstance(results, (str, bytes, dict, set, frozenset)) or not hasattr(results, "__iter__"):
        kind = type(results).__name__  # pyright: ignore[reportUnknownArgumentType]
        return [("fail", f"the batched handler returned a {kind}; it has to return a list", None)] * count
    answers: list[Answer] = []
    for result in results:
        answers.append(
            failure(result, non_retryable) if isinstance(result, BaseException) else ("ok", result)
        )
    if len(answers) != count:
        message = f"the batched handler got {count} jobs and returned {len(answers)} results"
        return [("retry", message, None, None)] * count
    return answers

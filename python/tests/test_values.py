"""What bodies and results may be, and what becomes of them."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import tracemalloc
import uuid
from collections import OrderedDict, namedtuple
from datetime import date, datetime, time, timezone
from typing import Any, ClassVar

import haulage
import numpy as np
import pydantic
import pytest
from haulage import testing

PLAIN: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**64,
    10**40,
    0.1,
    -0.0,
    1e300,
    5e-324,
    1.0,
    "",
    '\x00\x1f"\\/\u2028\U0001f600é',
    [],
    {},
    [[], {}, [None]],
    {"": {"a": [1, 2.5, "x", None]}},
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_json_values_come_back_as_they_were(value: Any) -> None:
    with testing.inline(lambda body: body) as client:
        job = client.submit(value)
        for back in (job.result(), client.record(job.id, body=True).body):
            assert back == value and type(back) is type(value)
            assert repr(back) == repr(value)


def test_large_documents_come_back_as_they_were() -> None:
    value = {"text": "añ\U0001f600" * 2_000_000, "numbers": [n / 7 for n in range(200_000)]}
    with testing.inline(lambda body: body) as client:
        assert client.submit(value).result() == value


class NotATime(datetime):
    """As of pandas, which is not needed here."""

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = datetime.__hash__


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Point:
    dimensions: ClassVar[int] = 2
    x: float
    label: str = "p"


class Model(pydantic.BaseModel):
    name: str
    at: datetime


Pair = namedtuple("Pair", "left right")

CONVERTED: list[tuple[Any, Any]] = [
    ((1, (2,)), [1, [2]]),
    (Pair(1, 2), [1, 2]),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    ({Colour.RED.value: Point(1.5)}, {"red": {"x": 1.5, "label": "p"}}),
    (datetime(2024, 5, 6, 7, 8, 9, 10, timezone.utc), "2024-05-06T07:08:09.000010+00:00"),
    (date(2024, 5, 6), "2024-05-06"),
    (time(7, 8), "07:08:00"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (np.float64(0.1), 0.1),
    (np.float32(0.5), 0.5),
    (np.int64(-7), -7),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.bool_(True), True),
    (np.str_("x"), "x"),
    (np.array([[1, 2], [3, 4]], dtype=np.int8), [[1, 2], [3, 4]]),
    (np.array(3.0), 3.0),
    (np.array([], dtype=np.float32), []),
    (np.datetime64("2024-05-06T07:08:09"), "2024-05-06T07:08:09"),
    (Model(name="m", at=datetime(2024, 1, 1)), {"name": "m", "at": "2024-01-01T00:00:00"}),
]


@pytest.mark.parametrize(("value", "becomes"), CONVERTED, ids=repr)
def test_documented_conversions(value: Any, becomes: Any) -> None:
    with testing.inline(lambda _: value) as client:
        back = client.submit(None).result()
        assert back == becomes and type(back) is type(becomes)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(30_001.0),
        np.arange(60_006, dtype=np.int32).reshape(-1, 3),
        np.arange(40_004).reshape(2, -1),
        np.arange(48_000.0).reshape(2, 3, -1, 2),
        np.array([str(n) for n in range(12_000)]),
        np.array([None, {"a": [1]}] * 6_000, dtype=object),
        np.arange(20_000.0).view(np.matrix),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_an_array_of_any_form_becomes_nested_lists(array: Any) -> None:
    with testing.inline(lambda _: array) as client:
        assert client.submit(None).result() == array.tolist()


def test_a_large_array_takes_little_more_memory_than_its_text() -> None:
    array = np.arange(1_000_000.0)
    client = testing.memory()
    client.submit([])
    tracemalloc.start()
    try:
        client.submit(array)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20, f"{peak} bytes in Python, where all numbers at once would take 32 MB"


cycle: list[Any] = []
cycle.append(cycle)

REFUSED: list[tuple[Any, str]] = [
    (float("nan"), "NaN"),
    ([1.0, float("inf")], r"\[1\] is Infinity"),
    ({"a": {"b": [0, float("-inf")]}}, r'\["a"\]\["b"\]\[1\] is -Infinity'),
    (np.array([1.0, np.nan]), r"\[1\] is NaN"),
    (np.where(np.arange(30_000) == 25_000, np.inf, 0.0), r"\[25000\] is Infinity"),
    (np.where(np.arange(60_000) == 50_000, np.nan, 0.0).reshape(2, -1), r"\[1\]\[20000\] is NaN"),
    (np.float32("nan"), "NaN"),
    (np.datetime64("NaT", "s"), "NaT"),
    (np.array([1 + 2j]), "complex128"),
    (np.longdouble(1), r"float128|longdouble"),
    ({1: 2}, "the key 1 of type int; keys of JSON are strings"),
    ({None: 2}, "NoneType"),
    (b"bytes", "bytes.*base64"),
    ({1, 2}, "set.*sorted list"),
    (decimal.Decimal("0.1"), r"Decimal \(decimal.Decimal\)"),
    (object(), "of type object"),
    ((n for n in range(3)), "generator"),
    ("\ud800", "lone surrogate"),
    ({"a": [{"b\ud800": 1}]}, r'\["a"\]\[0\]\["b.+"\] has a lone surrogate'),
    (NotATime(2024, 1, 1), "NaT"),
    ([10**5000], r"\[0\] is an integer with more digits.*set_int_max_str_digits"),
    (cycle, "500 levels, or contains itself"),
]


@pytest.mark.parametrize(("value", "why"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_has_no_json_form_is_refused_by_name(value: Any, why: str) -> None:
    with testing.inline(lambda _: value) as client:
        with pytest.raises(haulage.InvalidJSONError, match=f"the body.*{why}") as refused:
            client.submit(value)
        assert isinstance(refused.value, ValueError)
        job = client.submit(None)
        with pytest.raises(haulage.JobFailedError, match=f"the result.*{why}") as failed:
            job.result()
        assert failed.value.kind == "invalid_result"
        assert job.record().attempt == 1, "another attempt would not help"


def test_the_callers_body_is_left_alone() -> None:
    def meddle(body: dict[str, Any]) -> None:
        body["more"] = 1

    body = {"a": [1]}
    with testing.inline(meddle) as client:
        client.submit(body)
    assert body == {"a": [1]}

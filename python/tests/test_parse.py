"""From JSON to what annotations say."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from enum import Enum
from typing import Any, Literal, NamedTuple, NewType, Optional, Union
from uuid import UUID

import haulage
import pydantic
import pytest
from haulage import _haulage, testing
from haulage._parse import Unfit, parser


class Point(NamedTuple):
    """Of a list, in JSON."""

    x: float
    label: str = ""


class Size(Enum):
    """Of a number, in JSON."""

    SMALL = 1
    LARGE = 2


@dataclass
class Node:
    """What leads back to itself."""

    value: Union[int, Point]
    children: list[Node]


class Strict(pydantic.BaseModel):
    """A model that takes no text for a date in Python, but does in JSON."""

    model_config = pydantic.ConfigDict(strict=True)
    at: datetime


UserId = NewType("UserId", int)
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

FITS: list[tuple[Any, Any]] = [
    (int, 3),
    (float, 3),
    (float, 0.5),
    (Any, {"a": [None]}),
    (None, None),
    (Optional[str], None),
    (UserId, 7),
    (list[float], [1, 0.5]),
    (Sequence[str], ["a"]),
    (list[Any], [1, "a"]),
    (list, [1]),
    (typing.List[int], [1]),  # noqa: UP006
    (list[Size], [Size.SMALL, Size.LARGE]),
    (dict[str, Point], {"a": Point(1.5, "b")}),
    (Mapping[str, int], {"a": 1}),
    (dict, {"a": 1}),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (tuple[Any, Size], ([1], Size.LARGE)),
    (Literal["a", 1], 1),
    (Union[int, list[int]], [1]),
    (Union[Node, Strict], Strict(at=MOMENT)),
    (Node, Node(1, [Node(Point(2), []), Node(3, [Node(4, [])])])),
    (datetime, MOMENT),
    (date, date(2026, 1, 2)),
    (time, time(1, 2, 3)),
    (UUID, UUID(int=7)),
    (Strict, Strict(at=MOMENT)),
]


@pytest.mark.parametrize(("kind", "value"), FITS)
def test_what_was_written_is_read_again(kind: Any, value: Any) -> None:
    written = json.loads(_haulage.dumps("the value", value))
    parse = parser(kind)
    made = written if parse is None else parse(written)
    assert made == value and type(made) is type(value)


def test_a_moment_may_end_with_a_letter() -> None:
    parse = parser(datetime)
    assert parse is not None and parse("2026-01-02T03:04:05Z") == MOMENT


UNFIT: list[tuple[Any, Any, str]] = [
    (int, True, "the body is a bool, not an int"),
    (int, 3.0, "the body is a float, not an int"),
    (str, None, "the body is null, not a str"),
    (Optional[int], "a", "the body is a str, not an int"),
    (Union[int, str], [], "the body is a list, which fits none of int, str"),
    (Union[int, list[int]], [1, "a"], "the body[1] is a str, not an int"),
    (list[int], {"a": 1}, "the body is a dict, not a list"),
    (list[int], [1, 2, "3"], "the body[2] is a str, not an int"),
    (list[Size], [1, 3], "the body[1] is 3, which no Size is"),
    (dict[str, int], [], "the body is a list, not a dict"),
    (dict[str, int], {"a": 1, 'ä"': None}, 'the body["ä\\""] is null, not an int'),
    (tuple[int, str], [1], "the body has 1 items, and 2 are wanted"),
    (tuple[int, str], [1, 2], "the body[1] is an int, not a str"),
    (Literal["a", 1], True, "the body is True, not one of 'a', 1"),
    (datetime, 3, "the body is 3, which no datetime is"),
    (UUID, "x", "the body is 'x', which no UUID is"),
    (Strict, {"at": 3}, 'the body["at"] does not fit Strict: Input should be'),
    (Strict, 3, "the body does not fit Strict: Input should be"),
    (Node, {"value": 1, "children": [{"value": []}]}, 'the body["children"][0]["value"]'),
]


@pytest.mark.parametrize(("kind", "value", "why"), UNFIT)
def test_what_does_not_fit_is_told_with_its_place(kind: Any, value: Any, why: str) -> None:
    parse = parser(kind)
    assert parse is not None
    with pytest.raises(Unfit) as caught:
        parse(value)
    assert caught.value.message("the body").startswith(why)


def test_what_has_no_form_in_json_is_left_alone() -> None:
    for kind in (object, set, bytes, type, typing.Callable[[int], str], typing.TypeVar("T")):
        assert parser(kind) is None


def test_names_of_a_function_around_it_are_known() -> None:
    @dataclass
    class Local:
        value: int

    def handler(body: Local) -> int:
        assert isinstance(body, Local)
        return body.value

    with testing.inline(handler) as client:
        assert client.submit({"value": 3}).result() == 3


def test_fields_that_cannot_be_told_are_told_of_at_once() -> None:
    @dataclass
    class Odd:
        value: Nowhere  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore

    def handler(body: Odd) -> Odd:
        return Odd(body)

    with pytest.raises(haulage.InvalidArgumentError, match="whose fields cannot be told: NameError"):
        haulage.Worker(handler)

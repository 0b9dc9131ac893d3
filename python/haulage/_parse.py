"""From JSON to what annotations say: dataclasses, pydantic models, and what is made of them.

An annotation is made a function once, which takes a value and returns it as it is wanted, or raises
``Unfit``. ``None`` in place of the function: the value is left as it is, for ``Any`` and for types that
have no form in JSON.
"""

from __future__ import annotations

import collections.abc as abc
import contextlib
import dataclasses
import functools
import inspect
import json
import types
import typing
from datetime import date, datetime, time
from enum import Enum
from typing import Any, Callable, Union
from uuid import UUID

from . import _haulage

Parse = Callable[[Any], Any]

_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable)
_DICTS = (dict, abc.Mapping, abc.MutableMapping)
_MOMENTS = (datetime, date, time)
_UNIONS = (Union, getattr(types, "UnionType", Union))
# What each may be in JSON: there is but one kind of number in other languages.
_SCALARS: dict[Any, frozenset[Any]] = {
    bool: frozenset({bool}),
    int: frozenset({int}),
    float: frozenset({float, int}),
    str: frozenset({str}),
    type(None): frozenset({type(None)}),
}


class Unfit(ValueError):
    """A value does not fit; why, and the way to the place, outermost first."""

    def __init__(self, why: str, *steps: int | str) -> None:
        super().__init__(why)
        self.why = why
        self.steps: list[int | str] = list(steps)

    def at(self, step: int | str) -> Unfit:
        """The same, seen from one step further outside."""
        self.steps.insert(0, step)
        return self

    def message(self, what: str) -> str:
        """In words, as those about a value that has no JSON form."""
        place = "".join(f"[{json.dumps(step, ensure_ascii=False)}]" for step in self.steps)
        return f"{what}{place} {self.why}"


def evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    """What an annotation of a function stands for. Raises whatever comes of evaluating it."""
    if isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not hasattr(function, "__globals__"):
        function = getattr(function, "__call__", function)  # noqa: B004
    names = dict(getattr(function, "__globals__", {}))
    code = getattr(function, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or ()):
        with contextlib.suppress(ValueError):  # it is empty yet
            names[name] = cell.cell_contents
    holder: Any = types.SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, names)["it"]


def builds(kind: Any) -> bool:
    """Whether there is a dataclass or a model in it."""
    return _is_record(kind) or any(builds(part) for part in typing.get_args(kind))


def item_of(kind: Any) -> Any:
    """What a list of this type holds; anything, where it is no list."""
    parts = typing.get_args(kind)
    return parts[0] if typing.get_origin(kind) in _LISTS and parts else Any


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or _is_model(kind))


def _is_model(kind: Any) -> bool:
    return callable(getattr(kind, "model_validate_json", None))


def parser(kind: Any) -> Parse | None:
    """The function for an annotation that has been evaluated."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if hasattr(kind, "__supertype__"):  # a `NewType`
        return parser(kind.__supertype__)
    if origin in _UNIONS:
        return _union(kind, parts)
    if origin is typing.Literal:
        return functools.partial(_literal, parts)
    base: Any = type(None) if kind is None else origin or kind
    if not isinstance(base, type):
        return None
    if base in _SCALARS:
        return _Scalar(base)
    if base in _LISTS:
        return functools.partial(_list, parser(parts[0]) if parts else None)
    if base in _DICTS:
        return functools.partial(_dict, parser(parts[1]) if parts else None)
    if base is tuple:
        return _tuple(parts)
    if _is_model(base):
        return functools.partial(_model, base)
    if dataclasses.is_dataclass(base):
        return _record(base)
    fields: Any = getattr(base, "_fields", None)  # pyright: ignore[reportUnknownArgumentType]
    if issubclass(base, tuple) and fields is not None:
        hints = typing.get_type_hints(base)  # pyright: ignore[reportUnknownArgumentType]
        return functools.partial(_named_tuple, base, [parser(hints.get(name, Any)) for name in fields])
    if issubclass(base, Enum) or base is UUID:
        return functools.partial(_made, base, base)
    if base in _MOMENTS:
        return functools.partial(_made, base, functools.partial(_moment, base))
    return None


class _Scalar:
    def __init__(self, kind: type[Any]) -> None:
        self.kinds = _SCALARS[kind]
        self._wanted = _named(kind)

    def __call__(self, value: Any) -> Any:
        if type(value) not in self.kinds:
            raise Unfit(f"is {_of(value)}, not {self._wanted}")
        return value


def _a_list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Unfit(f"is {_of(value)}, not a list")
    return value  # pyright: ignore[reportUnknownVariableType]


def _list(item: Parse | None, value: Any) -> Any:
    values = _a_list(value)
    if item is None or (isinstance(item, _Scalar) and item.kinds.issuperset(map(type, values))):
        return values
    made: list[Any] = []
    try:
        for one in values:
            made.append(item(one))
    except Unfit as error:
        raise error.at(len(made)) from None
    return made


def _a_dict(value: Any, wanted: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise Unfit(f"is {_of(value)}, {wanted}")
    return value  # pyright: ignore[reportUnknownVariableType]


def _dict(item: Parse | None, value: Any) -> Any:
    values = _a_dict(value, "not a dict")
    if item is None:
        return values
    made: dict[str, Any] = {}
    for key, one in values.items():
        try:
            made[key] = item(one)
        except Unfit as error:
            raise error.at(key) from None
    return made


def _tuple(parts: tuple[Any, ...]) -> Parse:
    if not parts or parts[-1] is Ellipsis:
        items = functools.partial(_list, parser(parts[0]) if parts else None)
        return lambda value: tuple(items(value))
    return functools.partial(_fixed, [parser(part) for part in parts if part != ()])


def _fixed(items: list[Parse | None], value: Any) -> tuple[Any, ...]:
    values = _a_list(value)
    if len(values) != len(items):
        raise Unfit(f"has {len(values)} items, and {len(items)} are wanted")
    made: list[Any] = []
    try:
        for one, item in zip(values, items):
            made.append(one if item is None else item(one))
    except Unfit as error:
        raise error.at(len(made)) from None
    return tuple(made)


def _named_tuple(kind: Any, items: list[Parse | None], value: Any) -> Any:
    return kind(*_fixed(items, value))


def _literal(known: tuple[Any, ...], value: Any) -> Any:
    if not any(type(value) is type(one) and value == one for one in known):
        raise Unfit(f"is {value!r:.100}, not one of {', '.join(map(repr, known))}")
    return value


def _moment(kind: Any, value: Any) -> Any:
    # Python 3.10 does not know the letter.
    return kind.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)


def _made(kind: Any, make: Callable[[Any], Any], value: Any) -> Any:
    try:
        return make(value)
    except (ValueError, TypeError, AttributeError):
        raise Unfit(f"is {value!r:.100}, which no {kind.__name__} is") from None


def _union(kind: Any, parts: tuple[Any, ...]) -> Parse:
    items = [parser(part) for part in parts]

    def parse(value: Any) -> Any:
        errors: list[Unfit] = []
        for item in items:
            if item is None:
                return value
            try:
                return item(value)
            except Unfit as error:
                errors.append(error)
        # Who has come furthest was meant.
        best = max(errors, key=lambda error: len(error.steps))
        if best.steps:
            raise best
        others = [part for part in parts if part is not type(None)]
        raise (
            errors[parts.index(others[0])]
            if len(others) == 1
            else Unfit(f"is {_of(value)}, which fits none of {', '.join(map(_shown, others))}")
        )

    return parse


def _model(kind: Any, value: Any) -> Any:
    try:
        # As JSON, in which a date may be a text, even where the model is strict.
        return kind.model_validate_json(_haulage.dumps("the value", value))
    except ValueError as error:
        # `errors` is pydantic's; what it says of the input may be large, or secret.
        details = getattr(error, "errors", None)
        if details is None:
            raise Unfit(f"does not fit {kind.__name__}: {error}") from None
        first, *more = details(include_url=False, include_input=False, include_context=False)
        others = f" (and {len(more)} more)" if more else ""
        raise Unfit(f"does not fit {kind.__name__}: {first['msg']}{others}", *first["loc"]) from None


class Fields:
    """Named values, each with its parser: the fields of a dataclass, or the arguments of a task."""

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self.items: dict[str, Parse | None] = {}
        self.required: set[str] = set()
        self.others: Callable[[str, Any], Any] | None = None
        """What takes those of other names."""

    def __call__(self, value: Any) -> dict[str, Any]:
        """The values, as they are wanted."""
        made: dict[str, Any] = {}
        for name, one in _a_dict(value, f"and {self._holder} takes {self._names()} by name").items():
            try:
                if name not in self.items:
                    if self.others is None:
                        raise Unfit(f"is unknown to {self._holder}, which has {self._names()}")
                    made[name] = self.others(name, one)
                else:
                    item = self.items[name]
                    made[name] = one if item is None else item(one)
            except Unfit as error:
                raise error.at(name) from None
        for name in self.items:
            if name in self.required and name not in made:
                raise Unfit(f"is missing, and {self._holder} needs it", name)
        return made

    def _names(self) -> str:
        return ", ".join(self.items) or "nothing"


# Made before its fields are known, as they may lead back to it.
_records: dict[Any, Parse] = {}


def _record(kind: Any) -> Parse:
    known = _records.get(kind)
    if known is not None:
        return known
    fields = Fields(f"a {kind.__name__}")

    def parse(value: Any) -> Any:
        values = fields(value)
        try:
            return kind(**values)
        except Exception as error:  # whatever its `__post_init__` says
            raise Unfit(f"does not fit {kind.__name__}: {type(error).__name__}: {error}") from None

    _records[kind] = parse
    try:
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.init:
                fields.items[field.name] = parser(hints[field.name])
                if field.default is field.default_factory is dataclasses.MISSING:
                    fields.required.add(field.name)
    except BaseException:
        del _records[kind]
        raise
    return parse


def _named(kind: type[Any]) -> str:
    if kind is type(None):
        return "null"
    return f"an {kind.__name__}" if kind is int else f"a {kind.__name__}"


def _of(value: Any) -> str:
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    return _named(kind)


def _shown(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)

"""What values that JSON does not know are written as.

==========================================  ==============================================
value                                       becomes
==========================================  ==============================================
tuple, named tuple                          list
dataclass                                   dict of its fields
``datetime``, ``date``, ``time``            its ISO 8601 text (``isoformat()``)
``Enum``                                    its value
``UUID``                                    its text
numpy scalar of numbers, bool or text       the Python value
numpy array of those                        nested lists
numpy ``datetime64``                        its ISO 8601 text
pydantic model                              what ``model_dump(mode="json")`` gives
subclass of ``dict``, ``list``, ``str`` …   the plain value
==========================================  ==============================================

Everything else is refused, with the place and the type. So are NaN and the
infinities, keys of a dict that are no strings, bytes, sets and decimals:
whoever reads the value could not tell what it had been.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_HINTS = {
    "bytes": "encode it, for example with base64",
    "bytearray": "encode it, for example with base64",
    "set": "make it a sorted list",
    "frozenset": "make it a sorted list",
    "Decimal": "make it a str, or a float if that is precise enough",
    "timedelta": "use .total_seconds()",
    "complex": "make it a list of two numbers",
    "Tensor": "use .tolist()",
    "DataFrame": "use .to_dict('records')",
    "Series": "use .tolist()",
    "generator": "make it a list",
    "coroutine": "the function was not awaited",
}


def convert(value: Any) -> Any:
    """A value of another type, one step nearer to JSON; a ``TypeError`` where there is none."""
    kind: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, dict):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return list(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, tuple):
        return tuple(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (datetime, date, time)):
        # As of pandas, whose NaT is a `datetime`.
        if value != value:
            raise TypeError("is NaT, which is not JSON; use None instead")
        return value.isoformat()
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(value, name) for name in fields if _is_field(fields[name])}
    if callable(getattr(kind, "model_dump", None)):
        return value.model_dump(mode="json")
    if kind.__module__ == "uuid" and kind.__name__ == "UUID":
        return str(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        return _from_numpy(numpy, value)
    raise _refused(kind)


def _is_field(field: Any) -> bool:
    # `ClassVar`s and `InitVar`s are listed, too.
    return bool(field._field_type.name == "_FIELD")


def _from_numpy(numpy: Any, value: Any) -> Any:
    code = value.dtype.kind
    if code == "M":
        if numpy.isnat(value).any():
            raise TypeError("is NaT, which is not JSON; use None instead")
        return value.astype(str).tolist()
    # Bool, integers, text and objects as they are; of floats those that Python's can hold.
    if code in "biuUO" or (code == "f" and value.dtype.itemsize <= 8):
        # A row of a matrix is a matrix again.
        whole = value.size <= _PART or isinstance(value, numpy.matrix)
        return value.tolist() if whole else _items(value)
    raise TypeError(f"is of numpy's type {value.dtype}, which has no JSON form; convert it first")


# How many numbers of an array are Python's at a time, which takes up to five times the memory.
_PART = 10_000


def _items(value: Any) -> Iterator[Any]:
    """The items of an array, made a part at a time; those that are large themselves as arrays."""
    size = value.size // len(value)
    if size > _PART:
        yield from value
    else:
        rows = _PART // size
        for start in range(0, len(value), rows):
            yield from value[start : start + rows].tolist()


def record_schema(kind: type[Any]) -> Any:
    """How pydantic, which has asked, takes a record and writes it."""
    from pydantic_core import core_schema

    as_dict = core_schema.plain_serializer_function_ser_schema(lambda record: record.to_dict())
    return core_schema.is_instance_schema(kind, serialization=as_dict)


def _refused(kind: type[Any]) -> TypeError:
    name = kind.__name__
    where = "" if kind.__module__ == "builtins" else f" ({kind.__module__}.{kind.__qualname__})"
    hint = _HINTS.get(name, "convert it first")
    return TypeError(f"is of type {name}{where}, which has no JSON form; {hint}")

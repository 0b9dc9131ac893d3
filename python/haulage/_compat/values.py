"""What ``json.dumps`` takes by default, and the queue does not."""

from __future__ import annotations

import json
from typing import Any, cast


def as_json(value: Any) -> Any:
    """The value; where keys of a ``dict`` are numbers, bools or ``None``, with the text that they become.

    NaN and the infinities stay what they are, and are refused: no other reader of JSON takes them.
    """
    return json.loads(json.dumps(value)) if _has_other_keys(value) else value


def _has_other_keys(value: Any) -> bool:
    if isinstance(value, dict):
        keys = cast("dict[object, object]", value)
        return any(not isinstance(key, str) for key in keys) or any(map(_has_other_keys, keys.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_other_keys, cast("list[Any]", value)))
    return False

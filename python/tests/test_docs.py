"""What `docs/python.md` says of tests and names; `make test-docs` runs the rest of its code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import haulage

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_of_a_test_works() -> None:
    names: dict[str, Any] = {"haulage": haulage}
    exec(BLOCKS[0].replace("# tasks.py", ""), names)
    (example,) = (block for block in BLOCKS if "testing.inline" in block)
    exec(example, names)
    names["test_double"]()


def test_every_exported_name_is_there() -> None:
    for name in haulage.__all__:
        assert getattr(haulage, name) is not None
        assert name in dir(haulage)

"""The code of `docs/python.md` is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import haulage
import pytest

from support import Program, line

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_page_works(
    tmp_path: Path, url: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, client = BLOCKS[0], BLOCKS[1]
    (tmp_path / "tasks.py").write_text(tasks)
    monkeypatch.setenv("HAULAGE_URL", url)
    program("import haulage.__main__ as m; m.main(['worker', '--python', 'tasks:double'])")
    process = program(client)
    assert line(process).endswith((" SUBMITTED", " IN_PROGRESS", " SUCCESS"))
    assert line(process) == "{'double': 8}"


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

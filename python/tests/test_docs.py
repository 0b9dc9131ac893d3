"""The code of `docs/python.md` that `make test-docs` does not run, and the names that are exported."""

from __future__ import annotations

import ast
import asyncio
import io
import logging
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


def test_the_three_ways_to_run_a_worker_work() -> None:
    (example,) = (block for block in BLOCKS if "run_async()" in block)
    with haulage.testing.memory() as client:
        # The reader's goes on until a signal.
        double = haulage.worker(until_empty=True)(lambda body: body * 2)
        names = {"haulage": haulage, "client": client, "double": double}
        job = client.submit(4)
        code = compile(example, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        asyncio.run(eval(code, names))
        assert job.result(timeout=0) == 8


def test_a_line_of_the_log_is_of_its_job() -> None:
    (example,) = (block for block in BLOCKS if "haulage.JobFilter()" in block)
    names: dict[str, Any] = {"haulage": haulage, "logging": logging}
    exec(example, names)
    lines = io.StringIO()
    names["handler"].setStream(lines)
    log = logging.getLogger("test_docs")
    log.addHandler(names["handler"])
    with haulage.testing.inline(lambda body: log.warning("half of it")) as client:
        job = client.submit(4)
    log.removeHandler(names["handler"])
    assert lines.getvalue() == f"{job.id} 1 half of it\n"


def test_every_exported_name_is_there() -> None:
    for name in haulage.__all__:
        assert getattr(haulage, name) is not None
        assert name in dir(haulage)

"""Real sentences that every Python has: what its functions say of themselves."""

from __future__ import annotations

import importlib
import inspect
import re

MODULES = [
    "bisect",
    "calendar",
    "contextlib",
    "copy",
    "csv",
    "difflib",
    "fractions",
    "functools",
    "glob",
    "gzip",
    "hashlib",
    "heapq",
    "inspect",
    "itertools",
    "json",
    "math",
    "os",
    "os.path",
    "pprint",
    "random",
    "re",
    "shlex",
    "shutil",
    "statistics",
    "string",
    "struct",
    "subprocess",
    "tempfile",
    "textwrap",
    "threading",
    "time",
    "urllib.parse",
    "zipfile",
]


def sentences() -> dict[str, str]:
    """The first sentence about each public function, by the function's name."""
    found: dict[str, str] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for member in sorted(dir(module)):
            value = getattr(module, member)
            if member.startswith("_") or not callable(value):
                continue
            text = inspect.getdoc(value) or ""
            first = re.split(r"(?<=[.!?])\s|\n\n", text, maxsplit=1)[0].replace("\n", " ").strip()
            if len(first.split()) >= 5 and len(first) <= 200 and first not in found.values():
                found[f"{name}.{member}"] = first
    return found

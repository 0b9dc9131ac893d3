"""What the tests share beside fixtures."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

# So long until a test fails rather than hangs, in seconds.
SOON = 30.0

Program = Callable[..., "subprocess.Popen[str]"]


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a program writes."""
    assert process.stdout is not None
    text = process.stdout.readline()
    if not text:
        _, errors = process.communicate(timeout=SOON)
        pytest.fail(f"the program ended with {process.returncode}: {errors}")
    return text.strip()

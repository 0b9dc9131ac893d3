"""Runs the tests of images and of the local stack: ``run.py``, within engine.sh."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import support

HERE = Path(__file__).parent
STACKS = ("haulage-test-stack", "haulage-test-model", "haulage-test-bad", "haulage-test-ecs")


def clear_away() -> None:
    """Removes what a run that was cut short has left with an engine that goes on."""
    for kind, command in (
        ("ps --all", "rm --force --volumes"),
        ("network ls", "network rm"),
        ("volume ls", "volume rm"),
    ):
        for stack in STACKS:
            support.clear_away(kind, command, stack)


def main() -> int:
    # So that what the tests have set up is taken down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    program, wheel, scaler = support.program(), support.wheel(), support.scaler()
    print(f"containers: with {program}, {wheel} and {scaler}", flush=True)
    started = time.monotonic()
    clear_away()
    try:
        subprocess.run([HERE / "base.sh"], check=True)
        print(f"containers: the bases took {time.monotonic() - started:.0f} s", flush=True)
        suite = unittest.defaultTestLoader.discover(
            str(HERE), pattern=sys.argv[1] if len(sys.argv) > 1 else "test_*.py"
        )
        result = unittest.TextTestRunner(verbosity=2).run(suite)
    except KeyboardInterrupt:
        return 130
    finally:
        clear_away()
    failed = len(result.failures) + len(result.errors)
    seconds = time.monotonic() - started
    # What fails before the first of its tests counts as none.
    print(f"{max(0, result.testsRun - failed)} passed, {failed} failed in {seconds:.2f}s")
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    os.chdir(HERE)
    sys.exit(main())

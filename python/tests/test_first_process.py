"""What a worker is as the first process of a container."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from haulage._worker import first_process

from support import SOON, Program, until

# Processes that lose their parent become children of this one, as of process 1.
FIRST = """
    import ctypes, sys
    from haulage._worker import first_process

    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    sys.exit(first_process.run_in_child([sys.executable, "-c", sys.argv[1]]))
"""

# Leaves a process without a parent, tells its id, and ends by a signal.
WORKER = """
import os, signal, sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
read, write = os.pipe()
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        os.write(write, str(os.getpid()).encode())
    os._exit(0)
os.waitpid(middle, 0)
print(os.read(read, 20).decode(), flush=True)
while True:
    signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives such processes to another one than 1")
def test_it_takes_note_of_every_end_and_passes_signals_on(program: Program) -> None:
    first = program(FIRST, WORKER)
    assert first.stdout is not None
    orphan = Path(f"/proc/{int(first.stdout.readline())}")
    until(lambda: not orphan.exists())
    first.send_signal(signal.SIGTERM)
    assert first.wait(SOON) == 7


def test_it_ends_as_its_worker_did(program: Program) -> None:
    killed = program(
        """
        import sys
        from haulage._worker import first_process

        code = "import os; os.kill(os.getpid(), 9)"
        sys.exit(first_process.run_in_child([sys.executable, "-c", code]))
        """
    )
    assert killed.wait(SOON) == 128 + 9
    assert not first_process.is_first()

"""What the tests share beside fixtures."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import haulage
import pytest

# So long until a test fails rather than hangs, in seconds. A machine may be slow.
SOON = 300.0

Program = Callable[..., "subprocess.Popen[str]"]
StartConsumer = Callable[..., haulage.Consumer]


def new_producer(**options: Any) -> haulage.Producer:
    return haulage.Producer(
        queue_name="jobs.fifo", ddb_client=haulage.DynamoDBClient(table="results"), **options
    )


def until(holds: Callable[[], object]) -> None:
    """Waits for what nothing tells of."""
    limit = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def tool(folder: Path, name: str, lines: str) -> tuple[str, ...]:
    """A program in a folder, which is these lines of a shell."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return (str(path),)


def free_port() -> int:
    """A port of this machine that stays free until somebody listens at it: those from 32768 on are given
    to whoever asks for any, and to every connection (``ip_local_port_range``)."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def running(*words: object, **options: Any) -> Generator[subprocess.Popen[str], None, None]:
    """Runs a program, and kills it where the test does not end it."""
    process = subprocess.Popen([str(word) for word in words], text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def starting(cwd: Path, *first: str) -> Generator[Program]:
    """Starts programs in a folder, by these words and those of the call, and kills those that are left."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **options: Any) -> subprocess.Popen[str]:
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen([*first, *words], text=True, cwd=cwd, **options)
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            with process:
                process.kill()


def ask(app: Any, path: str, method: str = "GET") -> tuple[int, bytes]:
    """What an ASGI application answers: status and body."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


class Entry(NamedTuple):
    """What the system tells of a process."""

    name: str
    state: str
    parent: int


def entry(pid: int) -> Entry | None:
    """A process, or none where it is gone, which it may be at any moment."""
    try:
        # PID (NAME) STATE PARENT …, where the name may hold anything.
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    state, parent, *_ = rest.split()
    return Entry(name, state, int(parent))


def ended(pid: int) -> bool:
    """Whether a process runs no more. Where nobody reaps it, it stays as a zombie."""
    found = entry(pid)
    return found is None or found.state == "Z"


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a program writes. One that hangs is killed."""
    assert process.stdout is not None
    limit = threading.Timer(SOON, process.kill)
    limit.start()
    text = process.stdout.readline()
    limit.cancel()
    if not text:
        _, errors = process.communicate(timeout=SOON)
        pytest.fail(f"the program ended with {process.returncode}: {errors}")
    return text.strip()

"""What the tests share: queues of their own, and programs in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import haulage
import pytest

from support import Program, StartConsumer, starting

# A shell ignores Ctrl-C for what it runs in the background, `nohup` the end of the terminal as well,
# and programs that are started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/jobs.db"


@pytest.fixture
def client(url: str) -> haulage.Client:
    return haulage.connect(url)


@pytest.fixture
def haulage_url(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    """Where those go who name no place."""
    monkeypatch.setenv("HAULAGE_URL", url)
    return url


@pytest.fixture
def start_consumer(haulage_url: str) -> Iterator[StartConsumer]:
    """Starts consumers of the compatible interface, and stops them."""
    started: list[haulage.Consumer] = []

    def start(compute_result: Callable[..., Any], **options: Any) -> haulage.Consumer:
        consumer = haulage.Consumer(
            queue_name="jobs.fifo",
            ddb_client=haulage.DynamoDBClient(table="results"),
            compute_result=compute_result,
            **options,
        )
        consumer.start_consuming()
        started.append(consumer)
        return consumer

    yield start
    for consumer in started:
        consumer.stop_consuming()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Starts Python programs."""
    with starting(tmp_path, sys.executable, "-c") as start:
        yield lambda code, *args: start(textwrap.dedent(code), *args, stdin=subprocess.PIPE)

"""The example in `example/`, without containers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from support import SOON

EXAMPLE = Path(__file__).parents[2] / "example"


def run(*, sqs: int, dynamodb: int) -> subprocess.CompletedProcess[str]:
    """`make example`, with its servers on other ports than the usual ones."""
    ports = {
        "QUEUE_ENDPOINT_URL": f"http://localhost:{sqs}",
        "TABLE_ENDPOINT_URL": f"http://localhost:{dynamodb}",
    }
    command = [sys.executable, str(EXAMPLE / "run.py")]
    return subprocess.run(
        command, env={**os.environ, **ports}, capture_output=True, text=True, timeout=SOON, check=False
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_example_runs_on_local_servers_and_on_a_file() -> None:
    done = run(sqs=free_port(), dynamodb=free_port())
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.startswith("with ")] == ["with local.env:", "with embedded.env:"]
    assert said.count("result: {'words': 4}") == 2


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(sqs=free_port(), dynamodb=port)
    assert done.returncode == 1
    assert done.stderr == (
        f"example: port {port} is taken; stop what listens there, or change the port in local.env\n"
    )

"""A local server in place of AWS."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest

MINISTACK = Path(__file__).parents[2] / ".tools" / "ministack" / "bin" / "ministack"
# So long until a server that does not answer fails the tests, in seconds.
START = 90.0


@contextlib.contextmanager
def ministack() -> Generator[None, None, None]:
    """Starts ministack on a free port, and says so in the environment, as users do."""
    if not MINISTACK.exists():
        pytest.exit(f"{MINISTACK} is missing; run `make tools`", returncode=1)
    # The UDP port of that number is held, so that of tests that start at once each gets another one.
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        tcp.bind(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        held.bind(("127.0.0.1", port))
        tcp.close()
        settings = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "SERVICES": "sqs,dynamodb,s3",
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
        }
        url = f"http://127.0.0.1:{port}"
        with (
            tempfile.TemporaryDirectory() as folder,
            subprocess.Popen([MINISTACK], env={**os.environ, **settings, "TMPDIR": folder}) as process,
        ):
            try:
                _wait(process, url)
                with pytest.MonkeyPatch.context() as environment:
                    environment.setenv("AWS_ENDPOINT_URL", url)
                    environment.setenv("AWS_ACCESS_KEY_ID", "local")
                    environment.setenv("AWS_SECRET_ACCESS_KEY", "local")
                    environment.setenv("AWS_REGION", "us-east-1")
                    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
                    yield
            finally:
                process.kill()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=START):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                pytest.exit(f"ministack does not start: {error}", returncode=1)
            # Nothing but a connection tells that a server is ready.
            time.sleep(0.05)

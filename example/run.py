"""The example without containers, twice: on local servers, and on a SQLite file.

``make example`` runs it. The code is the same each time; the file of settings tells the ways apart.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
MINISTACK = HERE.parent / ".tools" / "ministack" / "bin" / "ministack"
# So long until a server that does not answer is given up, in seconds.
START = 90
# What the consumer has to end, in seconds: its grace period, and a little.
STOP = 60


def settings_of(file: str) -> dict[str, str]:
    """As the programs see them: what the environment says goes before the file."""
    lines = (HERE / file).read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {**settings, **os.environ}


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """Starts a program in this folder, and stops it at the end."""
    with subprocess.Popen(command, cwd=HERE, env={**os.environ, **environment}) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP)
            except BaseException:
                process.kill()
                raise


@contextlib.contextmanager
def server(service: str, url: str) -> Generator[None]:
    """A local server in place of one of AWS, at the address that the settings name."""
    port = urlsplit(url).port
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit(
                f"example: port {port} is taken; stop what listens there, or change the port in local.env"
            )
    environment = {"SERVICES": service, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"}
    environment |= {"IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING"}
    with (
        tempfile.TemporaryDirectory() as folder,
        running([str(MINISTACK)], {**environment, "TMPDIR": folder}) as process,
    ):
        until = time.monotonic() + START
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/_ministack/health"):
                break
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"example: the server for {service} does not start")
            time.sleep(0.05)
        yield


def run(file: str) -> None:
    """Creates queue and table, starts the consumer, sends a message, and shows the result."""
    print(f"with {file}:", flush=True)
    environment = {"DOTENV_FILE": file}
    python = sys.executable
    subprocess.run([python, "create.py"], cwd=HERE, env={**os.environ, **environment}, check=True)
    consumer = [python, "-m", "uvicorn", "app:app", "--port", "0", "--log-level", "warning"]
    with running(consumer, environment):
        subprocess.run(
            [python, "send_message.py", "four words and more"],
            cwd=HERE,
            env={**os.environ, **environment},
            check=True,
        )


def main() -> None:
    # Where this interpreter's `haulage` is.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ.pop("HAULAGE_URL", None)
    local = settings_of("local.env")
    with server("sqs", local["QUEUE_ENDPOINT_URL"]), server("dynamodb", local["TABLE_ENDPOINT_URL"]):
        run("local.env")
    run("embedded.env")


if __name__ == "__main__":
    # As Ctrl-C: what it has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"example: {' '.join(error.cmd[1:])} ended with code {error.returncode}; its lines are above"
        )
    except KeyboardInterrupt:
        sys.exit(130)

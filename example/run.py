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

HERE = Path(__file__).resolve().parent
MINISTACK = HERE.parent / ".tools" / "ministack" / "bin" / "ministack"
# So long until a server that does not answer is given up, in seconds.
START = 90
# What the consumer has to end, in seconds: its grace period, and a little.
STOP = 60


def settings_of(file: str) -> dict[str, str]:
    """As the programs see them: what the environment says goes before the file."""
    path = HERE / file
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        sys.exit(f"example: {file} is missing in {HERE}; bring it back: git checkout {path}")
    except OSError as error:
        sys.exit(f"example: {path} cannot be read: {error.strerror}")
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {**settings, **os.environ}


def port_of(settings: dict[str, str], name: str) -> int:
    """The port of this machine that a server is to have."""
    url = settings.get(name, "")
    # A port that is not a number is told when it is read.
    with contextlib.suppress(ValueError):
        if port := urlsplit(url).port:
            return port
    sys.exit(f"example: {name} is {url!r}; local.env needs an address with a port, as http://localhost:9324")


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], folder: str
) -> Generator[subprocess.Popen[bytes]]:
    """Starts a program in a folder, and stops it at the end."""
    with subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}) as process:
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
def server(service: str, port: int) -> Generator[None]:
    """A local server in place of one of AWS, at the port that the settings name."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit(
                f"example: port {port} is taken; stop what listens there, or change the port in local.env"
            )
    environment = {"SERVICES": service, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"}
    environment |= {"IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING"}
    with (
        tempfile.TemporaryDirectory() as folder,
        running([str(MINISTACK)], {**environment, "TMPDIR": folder}, folder) as process,
    ):
        health = f"http://127.0.0.1:{port}/_ministack/health"
        until = time.monotonic() + START
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(health):
                break
            if process.poll() is not None or time.monotonic() > until:
                sys.exit(f"example: the server for {service} does not start")
            time.sleep(0.05)
        yield


def run(file: str) -> None:
    """Creates queue and table, starts the consumer, sends a message, and shows the result."""
    print(f"with {file}:", flush=True)
    environment = {"DOTENV_FILE": str(HERE / file)}
    python = sys.executable

    def finish(program: str, *arguments: str) -> None:
        command = [python, str(HERE / program), *arguments]
        subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)

    # A file of jobs is made where the programs run.
    with tempfile.TemporaryDirectory() as folder:
        finish("create.py")
        consumer = [python, "-m", "uvicorn", "app:app", "--app-dir", str(HERE)]
        consumer += ["--port", "0", "--log-level", "warning"]
        with running(consumer, environment, folder):
            finish("send_message.py", "four words and more")


def main() -> None:
    # What Python would keep of the modules beside this file.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ.pop("HAULAGE_URL", None)
    # Before anything is started.
    local, _ = settings_of("local.env"), settings_of("embedded.env")
    sqs, dynamodb = port_of(local, "QUEUE_ENDPOINT_URL"), port_of(local, "TABLE_ENDPOINT_URL")
    if not MINISTACK.is_file():
        sys.exit(f"example: {MINISTACK} is missing; install it: make tools")
    with server("sqs", sqs), server("dynamodb", dynamodb):
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

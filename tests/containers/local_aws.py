"""What stands in for AWS where a service is scaled: ECS, SQS and the like, and Lambda's runtime."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO, Any

import support
from support import ROOT, WORK, docker, until

HERE = Path(__file__).parent
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": REGION}
# As Terraform has it, in seconds.
LAMBDA_TIMEOUT = 59
TARGETS = {
    "ecs": "AmazonEC2ContainerServiceV20141113",
    "logs": "Logs_20140328",
    "sqs": "AmazonSQS",
}


@contextlib.contextmanager
def network(name: str) -> Iterator[str]:
    """A network of containers; this machine's address in it. What is left in it goes with it."""
    docker("network", "create", "--label", f"com.docker.compose.project={name}", name)
    try:
        (settings,) = json.loads(docker("network", "inspect", name))[0]["IPAM"]["Config"]
        yield settings["Gateway"]
    finally:
        support.clear_away("ps --all", "rm --force --volumes", name)
        docker("network", "rm", name)


@contextlib.contextmanager
def process(*command: str | Path, log: IO[bytes], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program, which ends with this one at the latest, also where this one is killed."""
    tied = ["setpriv", "--pdeathsig", "KILL", *command]
    with subprocess.Popen(tied, env=environment, stdout=log, stderr=log) as program:
        try:
            yield program
        finally:
            program.kill()


class Aws:
    """Calls of the emulator, in the JSON protocol of AWS; it takes them unsigned."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, api: str, action: str, /, **request: Any) -> dict[str, Any]:
        headers = {
            "X-Amz-Target": f"{TARGETS[api]}.{action}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        call = urllib.request.Request(self.url, json.dumps(request).encode(), headers)
        try:
            with urllib.request.urlopen(call) as answer:
                answered: dict[str, Any] = json.load(answer)
                return answered
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{action}: {error.read().decode()}") from None


@contextlib.contextmanager
def emulator(network: str, address: str, log: IO[bytes]) -> Iterator[Aws]:
    """emulator.py, at this machine's address in a network, which it puts the tasks into."""
    aws = Aws(f"http://{address}:4566")
    python = ROOT / ".tools" / "ministack" / "bin" / "python"
    environment = {
        **os.environ,
        "PYTHONPATH": str(_docker_library()),
        "ECS_NETWORK": network,
        "ECS_HOST": address,
        "BIND_HOST": address,
        "MINISTACK_HOST": address,
        "GATEWAY_PORT": "4566",
        "SERVICES": "sqs,dynamodb,ecs,ecs-metadata,monitoring,logs",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }
    with process(python, HERE / "emulator.py", log=log, **environment) as program:

        def answers() -> bool:
            if program.poll() is not None:
                raise AssertionError("the emulator of AWS has ended")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{aws.url}/_ministack/health").close()
                return True
            return False

        until(answers, "the emulator of AWS answers")
        yield aws


def _docker_library() -> Path:
    """With what ministack starts containers; installed once."""
    support.run(ROOT / "tests" / "servers" / "install.sh", "ministack")
    folder, wanted = WORK / "docker-library", HERE / "requirements.txt"
    stamp = folder / wanted.name
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        support.run(
            ROOT / ".tools" / "ministack" / "bin" / "pip",
            *("install", "--quiet", "--disable-pip-version-check", "--require-hashes"),
            *("--target", folder, "--requirement", wanted),
        )
        shutil.copy(wanted, stamp)
    return folder


@contextlib.contextmanager
def function(program: Path, log: IO[bytes], **environment: str) -> Iterator[Callable[[Any], Any]]:
    """The program of a Lambda, on its runtime API ("Using the Lambda runtime API for custom runtimes",
    AWS Lambda Developer Guide); what it answers to an event.
    """
    events: queue.Queue[bytes] = queue.Queue()
    answers: queue.Queue[tuple[str, Any]] = queue.Queue()

    class RuntimeApi(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            event = events.get()
            deadline = int((time.time() + LAMBDA_TIMEOUT) * 1000)
            arn = f"arn:aws:lambda:{REGION}:000000000000:function:scaler"
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", "00000000-0000-4000-8000-000000000000")
            self.send_header("Lambda-Runtime-Deadline-Ms", str(deadline))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", arn)
            self.send_header("Content-Length", str(len(event)))
            self.end_headers()
            self.wfile.write(event)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            answers.put((self.path.rsplit("/", 1)[-1], json.loads(body)))

        def log_message(self, *_: object) -> None:
            pass

    def invoke(event: Any) -> Any:
        events.put(json.dumps(event).encode())
        kind, answer = answers.get(timeout=LAMBDA_TIMEOUT)
        if kind != "response":
            raise AssertionError(f"the Lambda has failed: {answer}")
        return answer

    with serving("127.0.0.1", 0, RuntimeApi) as address:
        variables = {
            "AWS_LAMBDA_RUNTIME_API": address,
            "AWS_LAMBDA_FUNCTION_NAME": "scaler",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            **CREDENTIALS,
            **environment,
        }
        with process(program, log=log, **variables):
            yield invoke


@contextlib.contextmanager
def serving(address: str, port: int, requests: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server in this process; where it listens."""
    with ThreadingHTTPServer((address, port), requests) as server:
        # One that waits for an answer ends with the process.
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"{address}:{server.server_port}"
        finally:
            server.shutdown()

"""A pipeline on the emulator that the scaling Lambda's own program scales: applied, out for
jobs, in once a worker has done them, destroyed. `make test-scaled` runs it:
`scaled.py LAMBDA HAULAGE`, with the two programs.

The Lambda gets its events from a runtime API here, as Terraform has EventBridge send them.
It speaks to CloudWatch in CBOR, which the emulator does not; ministack does.
"""

import contextlib
import json
import os
import pathlib
import queue
import subprocess
import socket
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ladder

# How long an invocation may take, in seconds: two looks for the way out, and for the way in
# as many as the window needs.
OUT, IN = 13, 58
WINDOW = 30
MINISTACK = ladder.TOOLS.parent / "ministack" / "bin" / "ministack"


class Runtime:
    """The runtime API of Lambda ("Using the Lambda runtime API"), for one function."""

    def __init__(self) -> None:
        self._events: queue.Queue[tuple[dict, int] | None] = queue.Queue()
        self._answers: queue.Queue[tuple[str, dict]] = queue.Queue()
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_) -> None:
                pass

            def do_GET(self) -> None:
                event = runtime._events.get()
                if event is None:
                    return self._answer(410, b"")
                body, deadline = event
                self._answer(200, json.dumps(body).encode(), {
                    "Lambda-Runtime-Aws-Request-Id": "1",
                    "Lambda-Runtime-Deadline-Ms": str(deadline),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:123456789012:function:scaler",
                })

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                runtime._answers.put((self.path.rsplit("/", 1)[1], json.loads(body or b"null")))
                self._answer(202, b"{}")

            def _answer(self, status: int, body: bytes, headers: dict | None = None) -> None:
                # Whoever has ended meanwhile is told nothing.
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def invoke(self, event: dict, seconds: float) -> None:
        self._events.put((event, int((time.time() + seconds) * 1000)))
        kind, answer = self._answers.get(timeout=seconds + 30)
        if kind != "response":
            raise ladder.Failed(f"the Lambda failed: {answer}")

    def close(self) -> None:
        self._events.put(None)
        self._server.shutdown()


@contextlib.contextmanager
def cloudwatch(log: pathlib.Path):
    """Its address, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = {"GATEWAY_PORT": port, "BIND_HOST": "127.0.0.1", "SERVICES": "monitoring", "LOG_LEVEL": "WARNING"}
    with log.open("w") as out, ladder.running(
        str(MINISTACK), env={**os.environ, **settings, "IOT_MTLS_ENABLED": "0"}, stdout=out, stderr=out
    ):
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=10).close()
                break
            time.sleep(0.25)
        else:
            raise ladder.Failed(f"ministack did not start:\n{log.read_text()}")
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def scaler(program: pathlib.Path, metrics: str, log: pathlib.Path):
    runtime = Runtime()
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_RUNTIME_API": runtime.address,
        "AWS_LAMBDA_FUNCTION_NAME": "scaler",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_ENDPOINT_URL": ladder.ENDPOINT,
        "AWS_ENDPOINT_URL_CLOUDWATCH": metrics,
        "AWS_REGION": ladder.REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with log.open("w") as out, ladder.running(str(program), env=environment, stdout=out, stderr=subprocess.STDOUT):
        yield runtime
        runtime.close()


def said(haulage: pathlib.Path, url: str, *arguments: str) -> list[str]:
    """The lines that the command line says of a pipeline."""
    environment = {
        "PATH": os.environ["PATH"],
        "HAULAGE_URL": url,
        "AWS_ENDPOINT_URL": ladder.ENDPOINT,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    ran = subprocess.run([haulage, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    if ran.returncode != 0:
        raise ladder.Failed(f"haulage {' '.join(arguments)} ended with {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
    return ran.stdout.splitlines()


def main(program: pathlib.Path, haulage: pathlib.Path) -> None:
    work = ladder.prepared()
    configuration = ladder.downleveled(work)
    with ladder.emulator(work), cloudwatch(work / "ministack.log") as metrics:
        aws = ladder.checks.Aws(ladder.ENDPOINT, ladder.REGION)
        vpc = aws.make_vpc()
        variables = {
            "name": "scaled",
            "assign_public_ip": True,
            "container_tag": "v1",
            "lambda_package": {"path": str(ladder.empty_package(work))},
            "service_autoscaling_min_capacity": 0,
            "service_autoscaling_scale_in_window_seconds": WINDOW,
            "queue_fifo": False,
            "payload_bucket_force_destroy": True,
            **vpc,
        }
        pipeline = ladder.Stack(configuration / "inference_pipeline", "scaled", work, variables)
        with ladder.step("scaled: apply the pipeline"):
            outputs = pipeline.apply()
        ecs, url = aws("ecs"), outputs["haulage_url"]
        target = aws("events").list_targets_by_rule(Rule="scaled-autoscale")["Targets"][0]
        event = json.loads(target["Input"])

        def desired() -> int:
            names = {"cluster": outputs["cluster_name"], "services": [outputs["service_name"]]}
            return ecs.describe_services(**names)["services"][0]["desiredCount"]

        log = work / "scaler.log"
        with scaler(program, metrics, log) as runtime:
            with ladder.step("scaled: nothing runs where nothing waits"):
                runtime.invoke(event, OUT)
                assert desired() == 0, log.read_text()
            with ladder.step("scaled: out for three jobs"):
                jobs = [job for number in range(3) for job in said(haulage, url, "submit", str(number))]
                runtime.invoke(event, OUT)
                assert desired() == 3, log.read_text()
            with ladder.step("scaled: in once they are done"):
                said(haulage, url, "worker", "--until-empty", "--claim-wait", "1s", "--shell", "cat")
                results = [said(haulage, url, "result", job) for job in jobs]
                assert results == [["0"], ["1"], ["2"]], results
                runtime.invoke(event, IN)
                assert desired() == 0, log.read_text()
        with ladder.step("scaled: destroy the pipeline"):
            pipeline.destroy()


if __name__ == "__main__":
    main(*(pathlib.Path(program).absolute() for program in sys.argv[1:]))

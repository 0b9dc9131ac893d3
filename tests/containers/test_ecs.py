"""A service of ECS follows its queue: the worker image, the scaling Lambda's own program, and jobs.

The emulator of AWS runs the tasks as containers. What of it stands in for ECS is said in emulator.py;
that AWS does the same, and how soon, only an account shows.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import unittest
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import support
from local_aws import CREDENTIALS, REGION, Aws, emulator, function, network, serving
from support import docker, until

NAME = "haulage-test-ecs"
IMAGE = "haulage-test/worker"
QUEUE, TABLE = "jobs.fifo", "results"
URL = f"sqs://{QUEUE}?table={TABLE}&region={REGION}"
CLUSTER, SERVICE = "cluster", "worker"
# With jobs that are expected to take a third of the target, a task of one slot takes three of them.
JOBS, TASKS, JOB_SECONDS, TARGET_SECONDS = 9, 3, 20, 60
# The shortest that there is.
WINDOW_SECONDS = 30

Task = dict[str, Any]


class Handler:
    """The server to which the workers hand their jobs: each ends when it is let go."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] | None = None
        self.started: Counter[str] = Counter()
        # By job, the address of the worker that has handed it over.
        self.running: dict[str, str] = {}

    @contextlib.contextmanager
    def listening(self, address: str) -> Iterator[str]:
        with serving(address, 8080, self._requests()) as listens:
            try:
                yield f"http://{listens}/"
            finally:
                self.let_go()

    def let_go(self, all_but: str | None = None) -> None:
        """Ends the jobs, those that come from now on, too, but of the worker at one address."""
        with self._changed:
            self._held = {all_but} if all_but else set()
            self._changed.notify_all()

    def _run(self, job: str, worker: str) -> None:
        with self._changed:
            self.started[job] += 1
            self.running[job] = worker
            self._changed.wait_for(lambda: self._held is not None and worker not in self._held)
            del self.running[job]

    def _requests(self) -> type[BaseHTTPRequestHandler]:
        run = self._run

        class Requests(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                run(self.headers["X-Haulage-Job-Id"], self.client_address[0])
                result = json.dumps(body["number"] * 2).encode()
                # A worker that was killed does not listen.
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(result)))
                    self.end_headers()
                    self.wfile.write(result)

            def log_message(self, *_: object) -> None:
                pass

        return Requests


class Service:
    """A service, its queue, and the Lambda that looks after both."""

    def __init__(self, aws: Aws, handler: str, scaler: Callable[[Any], Any]) -> None:
        self._aws = aws
        self._scaler = scaler
        self.haulage("queue", "create")
        self._queue_url = aws("sqs", "GetQueueUrl", QueueName=QUEUE)["QueueUrl"]
        self._create(handler)

    def _create(self, handler: str) -> None:
        """As Terraform describes it; credentials take the place of the task role."""
        environment = {
            **CREDENTIALS,
            "HAULAGE_URL": f"{URL}&ecs_protection=require",
            "HAULAGE_CONCURRENCY": "1",
            "HAULAGE_LEASE": "30s",
            "HAULAGE_HEARTBEAT_INTERVAL": "10s",
            "HAULAGE_SHUTDOWN_GRACE_PERIOD": "110s",
        }
        container = {
            "name": "worker",
            "image": IMAGE,
            "command": ["worker", "--http", handler],
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
            "stopTimeout": 120,
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {"awslogs-group": NAME, "awslogs-create-group": "true"},
            },
        }
        definition = {"family": SERVICE, "networkMode": "awsvpc", "containerDefinitions": [container]}
        self._aws("ecs", "RegisterTaskDefinition", **definition)
        service = {"serviceName": SERVICE, "taskDefinition": SERVICE, "desiredCount": 0}
        self._aws("ecs", "CreateService", cluster=CLUSTER, **service)

    def haulage(self, *arguments: str, stdin: str = "") -> str:
        """Runs the program of the worker image, beside the service."""
        environment = {**CREDENTIALS, "HAULAGE_URL": URL, "AWS_ENDPOINT_URL": self._aws.url}
        options = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        container = ("docker", "run", "--rm", "--interactive", "--network", NAME, *options, IMAGE)
        return support.run(*container, *arguments, input=stdin)

    def look(self) -> int:
        """Lets the Lambda look once; how many tasks are desired then."""
        pair = {
            "cluster": CLUSTER,
            "service": SERVICE,
            "queue_name": QUEUE,
            "queue_url": self._queue_url,
            "slots_per_task": 1,
            "job_seconds": JOB_SECONDS,
            "target_seconds": TARGET_SECONDS,
            "direct": {"min_tasks": 0, "max_tasks": 10, "scale_in_window_seconds": WINDOW_SECONDS},
        }
        answer = self._scaler({"samples_per_minute": 1, "pairs": [pair]})
        assert answer == {"samples": 1, "pairs": 1}, answer
        (service,) = self._aws("ecs", "DescribeServices", cluster=CLUSTER, services=[SERVICE])["services"]
        return int(service["desiredCount"])

    def messages(self) -> tuple[int, int]:
        """How many wait, and how many are in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._aws("sqs", "GetQueueAttributes", QueueUrl=self._queue_url, AttributeNames=names)
        waiting, in_flight = (int(answer["Attributes"][name]) for name in names)
        return waiting, in_flight

    def tasks(self, desired: str = "RUNNING") -> dict[str, Task]:
        """The tasks that are to run, or to stop, in the order in which they were started, by address."""
        listed = self._aws("ecs", "ListTasks", cluster=CLUSTER, serviceName=SERVICE, desiredStatus=desired)
        tasks = self._aws("ecs", "DescribeTasks", cluster=CLUSTER, tasks=listed["taskArns"])["tasks"]
        return {address(task): task for task in tasks}

    def stopped(self) -> dict[str, Task]:
        """The tasks that have stopped."""
        return {at: task for at, task in self.tasks("STOPPED").items() if task["lastStatus"] == "STOPPED"}

    def protected(self) -> set[str]:
        """The addresses of the tasks that are protected."""
        tasks = {task["taskArn"]: at for at, task in self.tasks().items()}
        answer = self._aws("ecs", "GetTaskProtection", cluster=CLUSTER, tasks=list(tasks))
        return {tasks[one["taskArn"]] for one in answer["protectedTasks"] if one["protectionEnabled"]}

    def log(self) -> str:
        """What the tasks have said."""
        events = self._aws("logs", "FilterLogEvents", logGroupName=NAME)["events"]
        return "\n".join(f"{event['logStreamName'][:12]} {event['message']}" for event in events)


def address(task: Task) -> str:
    """Of its network interface, which it has once its container runs."""
    details = [one for attachment in task["attachments"] for one in attachment["details"]]
    found = [one["value"] for one in details if one["name"] == "privateIPv4Address"]
    return str((found or [task["taskArn"]])[0])


@contextlib.contextmanager
def running(handler: Handler) -> Iterator[Service]:
    """All of it; where the test fails, what it has said is shown."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        here = stack.enter_context(network(NAME))
        aws = stack.enter_context(emulator(NAME, here, log))
        scaler = stack.enter_context(function(support.scaler(), log, AWS_ENDPOINT_URL=aws.url))
        service = Service(aws, stack.enter_context(handler.listening(here)), scaler)
        try:
            yield service
        except AssertionError:
            log.seek(0)
            print(log.read().decode(), service.log(), sep="\n")
            raise


class Scaling(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        bases = {"RUST_BASE": support.BASES["RUST_BASE"]}
        support.built(IMAGE, "images/worker.Dockerfile", PROGRAM=support.program(), **bases)

    def test_a_service_follows_a_burst_from_zero_to_three_and_back_and_no_job_runs_twice(self) -> None:
        handler = Handler()
        with running(handler) as service:
            self.follow(service, handler)

    def follow(self, service: Service, handler: Handler) -> None:
        self.assertEqual(service.look(), 0)
        bodies = "".join(json.dumps({"number": number}) + "\n" for number in range(JOBS))
        ids = service.haulage("submit", "--jsonl", "-", stdin=bodies).split()
        self.assertEqual(service.look(), TASKS)
        until(lambda: len(handler.running) == TASKS, "three jobs run")
        tasks = service.tasks()
        self.assertEqual(set(handler.running.values()), set(tasks), "one in each task")
        self.assertEqual(service.protected(), set(tasks), "a task that works is protected")
        self.assertEqual(service.look(), TASKS)

        # One goes on, in the newest task: the first to stop where nothing protects it.
        busy = list(tasks)[-1]
        handler.let_go(all_but=busy)
        until(lambda: service.messages() == (0, 1), "one job is left")
        until(lambda: service.protected() == {busy}, "a task without a job is not protected")
        until(lambda: service.look() == 1, "one job needs one task")
        self.assertEqual(set(service.tasks()), {busy}, "the task that works is spared")
        until(lambda: len(service.stopped()) == TASKS - 1, "two tasks have stopped")
        self.assertEqual(list(handler.running.values()), [busy], "the job goes on")

        handler.let_go()
        until(lambda: service.look() == 0, "without a job, no task is needed")
        until(lambda: len(service.stopped()) == TASKS, "no task is left")
        label = f"label=com.docker.compose.project={NAME}"
        until(lambda: not docker("ps", "--all", "--quiet", "--filter", label), "no container is left")
        codes = [task["containers"][0]["exitCode"] for task in service.stopped().values()]
        self.assertEqual(codes, [0] * TASKS, "each task has ended when it was told to")

        self.assertEqual(handler.started, Counter(ids), "each job has run once")
        records = [json.loads(line) for line in service.haulage("show", "--json", *ids).splitlines()]
        kept = [(one["status"], one["result"], one["attempt"], one["uncounted"]) for one in records]
        self.assertEqual(kept, [("SUCCESS", number * 2, 1, 0) for number in range(JOBS)])

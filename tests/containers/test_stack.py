"""The local stack, end to end, as a user of the example meets it, and as docs/containers.md shows it."""

from __future__ import annotations

import os
import subprocess
import unittest
import urllib.request
from pathlib import Path

import support
from support import EXAMPLE, Compose, docker, free_port, inspect, until

# So that a job need not run for a minute to outlast it, in seconds.
GRACE = 3

RECORD = """
import sys, haulage, settings
record = haulage.connect(settings.url()).record(sys.argv[1])
print(record.attempt, record.uncounted)
"""
SUBMIT = """
import haulage, settings
bodies = [{"text": "a b c", "seconds": 5}] * 9
print(*(job.id for job in haulage.connect(settings.url()).submit_many(bodies)))
"""
WAIT = """
import sys, haulage, settings
records = haulage.connect(settings.url()).wait(sys.argv[1:], 170)
print(*(record.attempt for record in records if record.result == {"words": 3}))
"""
BUSY = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/busy')"


def is_busy(consumer: str) -> bool:
    asked = subprocess.run(["docker", "exec", consumer, "python", "-c", BUSY], capture_output=True, text=True)
    return "503" in asked.stderr


class Stack(unittest.TestCase):
    python: Path
    stack: Compose
    local: dict[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.python = support.host_python()
        ports = {name: free_port() for name in ("SQS_PORT", "DYNAMODB_PORT", "TABLES_PORT")}
        cls.stack = Compose(
            "haulage-test-stack",
            WHEEL=support.wheel(),
            SHUTDOWN_GRACE_PERIOD=str(GRACE),
            **{name: str(port) for name, port in ports.items()},
        )
        # The file is the user's; the ports are free ones, and go before those in the file.
        cls.local = {
            **os.environ,
            "DOTENV_FILE": "local.env",
            "QUEUE_ENDPOINT_URL": f"http://localhost:{ports['SQS_PORT']}",
            "TABLE_ENDPOINT_URL": f"http://localhost:{ports['DYNAMODB_PORT']}",
        }
        cls.addClassCleanup(cls.stack.down)
        support.run(
            "./stack.sh",
            "up",
            "--build",
            "--detach",
            "--timeout",
            "60",
            cwd=EXAMPLE,
            env=cls.stack.environment,
        )

    def tearDown(self) -> None:
        if self._outcome is not None and not self._outcome.success:  # type: ignore[attr-defined]
            print(self.stack.logs())

    def send(self, *arguments: str) -> str:
        return support.run(self.python, "send_message.py", *arguments, cwd=EXAMPLE, env=self.local)

    def run_python(self, code: str, *arguments: str) -> str:
        return support.run(self.python, "-c", code, *arguments, cwd=EXAMPLE, env=self.local)

    def start(self, seconds: float) -> str:
        """Sends a message, and waits until it is worked on; its id."""
        id_ = self.send("some words", "--seconds", str(seconds), "--no-wait").removeprefix("id: ")
        until(lambda: self.status(id_) == "in_progress", "the job runs")
        return id_

    def status(self, id_: str) -> str:
        return support.run(self.python, "send_message.py", "--status", id_, cwd=EXAMPLE, env=self.local)

    def attempts(self, id_: str) -> tuple[int, int]:
        """How often it was begun, and how many of these do not count."""
        attempt, uncounted = self.run_python(RECORD, id_).split()
        return int(attempt), int(uncounted)

    def test_a_message_has_its_result_and_the_table_shows_it(self) -> None:
        said = self.send("five words in a message")
        self.assertRegex(said, r"status: success\nresult: \{'words': 5\}")
        port = self.stack.environment["TABLES_PORT"]
        with urllib.request.urlopen(f"http://localhost:{port}/") as page:
            self.assertIn("example-results", page.read().decode())

    def test_a_job_that_runs_ends_before_the_stack_does(self) -> None:
        id_ = self.start(GRACE - 1)
        self.stack("stop", "consumer")
        self.assertEqual(self.status(id_), "success")
        self.stack("start", "consumer")

    def test_a_job_that_takes_longer_is_given_back_and_costs_no_attempt(self) -> None:
        id_ = self.start(GRACE * 4)
        self.stack("stop", "consumer")
        self.assertEqual(self.status(id_), "submitted")
        self.assertEqual(self.attempts(id_), (1, 1))
        self.stack("start", "consumer")
        until(lambda: self.status(id_) == "success", "it ran after the next start")
        self.assertEqual(self.attempts(id_), (2, 1))

    def test_three_workers_lose_nothing_when_one_is_killed(self) -> None:
        self.stack("up", "--detach", "--no-deps", "--scale", "consumer=3", "consumer")
        until(lambda: self.stack.is_healthy("consumer"), "three consumers are well")
        ids = self.run_python(SUBMIT).split()
        busy: list[str] = []
        until(lambda: busy.extend(filter(is_busy, self.stack.containers("consumer"))) or busy, "one works")
        docker("kill", "--signal", "KILL", busy[0])
        attempts = self.run_python(WAIT, *ids).split()
        self.assertEqual(len(attempts), len(ids), "each has its result")
        self.assertEqual(max(attempts), "2", "that of the killed one ran once more")
        self.stack("up", "--detach", "--no-deps", "--scale", "consumer=1", "consumer")

    def test_the_first_process_hears_the_signal(self) -> None:
        (consumer, *_) = self.stack.containers("consumer")
        self.assertEqual(inspect(consumer)["Config"]["Entrypoint"], ["tini", "--"])
        self.assertRegex(support.docker("exec", consumer, "cat", "/proc/1/comm"), "tini")

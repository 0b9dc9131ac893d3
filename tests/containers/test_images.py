"""The images: what is in them, and how they behave as containers."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

import support
from support import built, docker, inspect, until

WORKER, PYTHON, HANDLER = "haulage-test/worker", "haulage-test/haulage-python", "haulage-test/handler"
# A base that has programs of its own, and the Python image on it.
TOOLKIT, ON_TOOLKIT = "haulage-test/toolkit", "haulage-test/python-on-toolkit"
# What the images may have, in MB as `docker images` counts them. The Python image is Debian's Python and
# the wheel.
LIMIT, PYTHON_LIMIT = 20, 320

# What an image has on its PATH whose base sets none, as Docker has it.
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

JOBS = 200
# Each job leaves a process behind that outlives it and has lost its parent.
ORPHANS = "setsid sleep 0.3 >/dev/null 2>&1 & echo 1"
ZOMBIES = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"
SLEEPERS = "grep -l '^Name:.sleep$' /proc/[0-9]*/status 2>/dev/null | wc -l"

TASKS = """
import time

def double(body):
    time.sleep(body["seconds"])
    return body["number"] * 2
"""


class Container:
    """A container that is removed at the end."""

    def __init__(self, *arguments: str) -> None:
        self.id = docker("run", "--detach", "--network", "none", *arguments)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "--force", "--volumes", self.id)

    def __call__(self, *command: str) -> str:
        return docker("exec", self.id, *command)

    @property
    def health(self) -> str:
        return str(inspect(self.id)["State"]["Health"]["Status"])

    def stop(self) -> int:
        """Stops it as an orchestrator does; the exit code."""
        docker("stop", "--time", "30", self.id)
        return int(inspect(self.id)["State"]["ExitCode"])


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        built(
            WORKER,
            "images/worker.Dockerfile",
            RUST_BASE=support.BASES["RUST_BASE"],
            PROGRAM=support.program(),
        )
        # On a base without Python, as those for CUDA are.
        bases = {"RUST_BASE": support.BASES["RUST_BASE"], "PYTHON_BASE": "haulage-test/debian"}
        built(PYTHON, "images/python.Dockerfile", WHEEL=support.wheel(), **bases)

    def test_they_are_small(self) -> None:
        worker, python = (inspect(image)["Size"] / 1e6 for image in (WORKER, PYTHON))
        print(f"\nworker image: {worker:.1f} MB of {LIMIT} MB")
        print(f"Python image: {python:.0f} MB of {PYTHON_LIMIT} MB")
        self.assertLess(worker, LIMIT)
        self.assertLess(python, PYTHON_LIMIT)

    def test_the_worker_image_has_the_program_alone(self) -> None:
        container = docker("create", WORKER)
        self.addCleanup(docker, "rm", container)
        archive = subprocess.run(["docker", "export", container], capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            programs = [file.name for file in files if file.isreg() and file.mode & 0o111 and file.size]
        self.assertEqual(programs, ["usr/local/bin/haulage"])

    def test_they_say_what_they_are_and_run_as_nobody(self) -> None:
        for image in (WORKER, PYTHON):
            with self.subTest(image):
                config = inspect(image)["Config"]
                self.assertEqual(config["User"], "65532:65532")
                self.assertEqual(config["StopSignal"], "SIGTERM")
                self.assertEqual(config["Healthcheck"]["Test"], ["CMD", "haulage", "health"])
                for label in ("title", "description", "source", "licenses", "version", "revision"):
                    self.assertTrue(config["Labels"][f"org.opencontainers.image.{label}"])
                self.assertRegex(
                    docker("run", "--rm", "--network", "none", image, *version(image)), r"haulage \d"
                )

    def test_what_the_base_has_on_its_path_stays_there(self) -> None:
        path = f"/opt/toolkit/bin:{USUAL_PATH}"
        with tempfile.TemporaryDirectory() as folder:
            # With Python, so that nothing is installed once more.
            dockerfile = f"FROM {support.BASES['PYTHON_BASE']}\nENV PATH={path}\n"
            (Path(folder) / "Dockerfile").write_text(dockerfile)
            docker("build", "--quiet", "--network", "none", "--tag", TOOLKIT, folder)
        bases = {"RUST_BASE": support.BASES["RUST_BASE"], "PYTHON_BASE": TOOLKIT}
        built(ON_TOOLKIT, "images/python.Dockerfile", WHEEL=support.wheel(), **bases)
        for image, expected in ((ON_TOOLKIT, path), (PYTHON, USUAL_PATH)):
            with self.subTest(image):
                self.assertIn(f"PATH=/opt/venv/bin:{expected}", inspect(image)["Config"]["Env"])

    def test_no_job_leaves_a_zombie(self) -> None:
        # As process 1 itself, and with the init that the image brings.
        for entrypoint in (["--entrypoint", "haulage", PYTHON], [PYTHON, "haulage"]):
            with (
                self.subTest(entrypoint),
                Container(*entrypoint, "worker", "--concurrency", "8", "--shell", ORPHANS) as worker,
            ):
                jobs = f"for i in $(seq {JOBS}); do echo 1; done"
                worker("sh", "-c", f"{jobs} | haulage submit --jsonl - --wait --wait-timeout 3m >/dev/null")
                until(lambda: worker("sh", "-c", SLEEPERS) == "0", "what the handlers left has ended")
                self.assertEqual(worker("sh", "-c", ZOMBIES), "0")
                self.assertEqual(worker.stop(), 0)
                logs = docker_logs(worker.id)
                self.assertIn(f"{JOBS} succeeded", logs)

    def test_a_worker_is_healthy_and_ends_when_it_is_told_to(self) -> None:
        with Container(WORKER, "worker", "--http", "http://127.0.0.1:1/") as worker:
            until(lambda: worker.health == "healthy", "the worker is healthy")
            self.assertEqual(worker.stop(), 0)
            self.assertIn("worker stopped", docker_logs(worker.id))

    def test_a_server_is_healthy_and_ends_when_it_is_told_to(self) -> None:
        address = "127.0.0.1:8080"
        with Container("--env", f"HAULAGE_LISTEN={address}", WORKER, "serve") as server:
            until(lambda: server.health == "healthy", "the server is healthy")
            id_ = server("haulage", "--url", f"http://{address}", "submit", "1")
            self.assertIn("SUBMITTED", server("haulage", "status", id_))
            self.assertEqual(server.stop(), 0)
            # Its worker's address is not what was asked.
            self.assertIn("the server answers", str(inspect(server.id)["State"]["Health"]["Log"]))

    def test_an_image_of_ones_own_runs_a_function_to_its_end(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            context = Path(folder)
            (context / "tasks.py").write_text(TASKS)
            dockerfile = (
                f"FROM {PYTHON}\nRUN pip --version\nCOPY tasks.py .\nENV HAULAGE_PYTHON=tasks:double\n"
            )
            (context / "Dockerfile").write_text(dockerfile)
            docker("build", "--quiet", "--network", "none", "--tag", HANDLER, folder)
        with Container("--volume", "/data", HANDLER) as worker:
            answer = worker(
                "haulage", "submit", "--wait", "--wait-timeout", "3m", '{"number": 4, "seconds": 0}'
            )
            self.assertEqual(answer, "8")
            id_ = worker("haulage", "submit", '{"number": 5, "seconds": 3}')
            until(lambda: "IN_PROGRESS" in worker("haulage", "status", id_), "the job runs")
            self.assertEqual(worker.stop(), 0)
            docker("start", worker.id)
            self.assertEqual(worker("haulage", "result", id_), "10")
            self.assertRegex(worker("haulage", "status", id_), "SUCCESS")


class WithoutTheProgram(unittest.TestCase):
    """Each ends in a sentence that says what to do."""

    def refused(self, tag: str, dockerfile: str, sentence: str, **arguments: str) -> None:
        done = support.build(tag, dockerfile, **{"RUST_BASE": support.BASES["RUST_BASE"], **arguments})
        self.assertNotEqual(done.returncode, 0)
        said = [line for line in plain(done.stdout + done.stderr) if line.startswith("images: ")]
        self.assertEqual(len(said), 1, done.stdout + done.stderr)
        self.assertRegex(said[0], sentence)

    def test_a_program_that_is_not_there(self) -> None:
        self.refused(
            "haulage-test/none",
            "images/worker.Dockerfile",
            "no program dist/none .*make dist",
            PROGRAM="dist/none",
        )

    def test_a_program_that_is_not_one(self) -> None:
        self.refused(
            "haulage-test/none",
            "images/worker.Dockerfile",
            "does not run in an empty image",
            PROGRAM="README.md",
        )

    def test_a_base_without_rust(self) -> None:
        self.refused("haulage-test/none", "images/worker.Dockerfile", "RUST_BASE has no Rust")

    def test_a_wheel_that_is_not_there(self) -> None:
        self.refused(
            "haulage-test/none",
            "images/python.Dockerfile",
            "no wheel dist/none.whl .*make dist",
            WHEEL="dist/none.whl",
        )

    def test_requirements_that_are_not_there(self) -> None:
        self.refused(
            "haulage-test/none",
            "images/python.Dockerfile",
            "no file none.txt",
            WHEEL=support.wheel(),
            REQUIREMENTS="none.txt",
        )


def version(image: str) -> list[str]:
    return ["--version"] if image == WORKER else ["haulage", "--version"]


def plain(text: str) -> list[str]:
    """Lines without colours."""
    return re.sub("\x1b\\[[0-9;]*m", "", text).splitlines()


def docker_logs(container: str) -> str:
    done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr

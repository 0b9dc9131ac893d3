"""What a user can get wrong: each ends in a sentence that says what to do, and leaves nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

import support
from support import EXAMPLE, ROOT, Compose, free_port

PROJECT = "haulage-test-bad"


class BadInput(unittest.TestCase):
    def setUp(self) -> None:
        ports = {name: str(free_port()) for name in ("SQS_PORT", "DYNAMODB_PORT", "TABLES_PORT")}
        self.stack = Compose(PROJECT, WHEEL=support.wheel(), **ports)

    def refused(
        self, sentence: str, command: list[str], cwd: Path = EXAMPLE, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command that fails with a sentence, and leaves no container and no network."""
        environment = {**self.stack.environment, **environment}
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr.splitlines()[-1], sentence)
        label = f"label=com.docker.compose.project={PROJECT}"
        self.assertEqual(support.docker("ps", "--all", "--quiet", "--filter", label), "")
        self.assertEqual(support.docker("network", "ls", "--quiet", "--filter", label), "")
        return done

    def up(self, sentence: str, cwd: Path = EXAMPLE, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.refused(sentence, ["./stack.sh", "up", "--build", "--detach"], cwd, **environment)

    def one_sentence(self, done: subprocess.CompletedProcess[str]) -> None:
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)

    def test_a_port_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = self.up(f"^stack: port {port} is taken; .*DYNAMODB_PORT=", DYNAMODB_PORT=port)
        self.one_sentence(done)

    def test_a_file_of_settings_that_is_missing(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "example"
            shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("*.env", "__pycache__"))
            self.one_sentence(self.up("^stack: docker.env is missing .* git checkout", copy))

    def test_a_wheel_that_is_missing(self) -> None:
        self.one_sentence(
            self.up("^stack: WHEEL=dist/none.whl is not a file .*make dist", WHEEL="dist/none.whl")
        )

    def test_no_engine(self) -> None:
        nowhere = "unix:///nowhere/docker.sock"
        self.one_sentence(self.up("^stack: no Docker engine is running; start it", DOCKER_HOST=nowhere))
        engine = ["tests/containers/engine.sh", "true"]
        self.one_sentence(
            self.refused("^containers: no Docker engine answers", engine, ROOT, DOCKER_HOST=nowhere)
        )

    @unittest.skipIf(os.getuid() != 0, "only root can become another user")
    def test_no_permission(self) -> None:
        # By another name, since the folders above may be root's alone.
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            copy = Path(folder) / "example"
            shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
            engine = Path(folder) / "engine.sock"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(engine))
                listener.listen()
                engine.chmod(0o600)
                nobody = [
                    "setpriv",
                    "--reuid",
                    "65534",
                    "--regid",
                    "65534",
                    "--clear-groups",
                    "./stack.sh",
                    "up",
                ]
                done = self.refused_as_nobody(nobody, copy, f"unix://{engine}")
        self.assertRegex(done.stderr, "^stack: no permission to use Docker; .*sudo")
        self.one_sentence(done)

    def refused_as_nobody(
        self, command: list[str], cwd: Path, engine: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {**self.stack.environment, "DOCKER_HOST": engine, "HOME": "/nonexistent"}
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)

    def test_a_build_that_fails_leaves_nothing(self) -> None:
        empty = ROOT / "dist" / "empty.whl"
        empty.write_bytes(b"no wheel")
        self.addCleanup(empty.unlink)
        self.up("^stack: the stack did not start, and nothing of it is left", WHEEL="dist/empty.whl")

    def test_settings_that_are_missing(self) -> None:
        python = support.host_python()
        send = [str(python), "send_message.py"]
        for name, sentence in (
            ("", "^QUEUE_NAME is not set; name a file that sets it, as in DOTENV_FILE=local.env"),
            ("none.env", "^DOTENV_FILE=none.env cannot be read: No such file"),
        ):
            self.one_sentence(self.refused(sentence, send, DOTENV_FILE=name))
        nowhere = {"DOTENV_FILE": "local.env", "QUEUE_ENDPOINT_URL": "http://127.0.0.1:1"}
        self.refused("^error: .*cannot be reached", send, **nowhere)

"""The engine that the tests bring along: it leaves this machine as it was.

With programs in place of Docker's and Debian's: it is the script that is tried.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from support import ROOT, until

TOOLS = """
awk bash cat chmod dirname env find flock grep id ip ls mkdir mount python3 rm rmdir sed seq setpriv sh sleep
tail touch true unshare
"""
# Answers where it is told where, as the client of an engine that this machine does not have.
DOCKER = '[ -n "${DOCKER_HOST:-}" ]'


@unittest.skipIf(os.getuid() != 0, "only root installs and starts an engine")
class Engine(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "tests" / "containers").mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "requirements.sh", self.root / "tests")
        shutil.copy(ROOT / "tests" / "containers" / "engine.sh", self.root / "tests" / "containers")
        self.engine = self.root / "tests" / "containers" / "engine.sh"
        self.bin = self.root / "bin"
        self.bin.mkdir()
        for tool in TOOLS.split():
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)
        self.said = self.root / "said"
        self.environment = {
            "PATH": str(self.bin),
            "SAID": str(self.said),
            "BIN": str(self.bin),
            "ENGINE_GRACE": "1",
        }

    def program(self, name: str, script: str) -> None:
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def installed(self, end: str) -> subprocess.CompletedProcess[str]:
        """Has the script install an engine, on a machine without one and without a policy."""
        install = f'/usr/sbin/policy-rc.d; echo "policy $?" >> "$SAID"; {end}'
        self.program("apt-get", f'[ "$1" = update ] || {{ {install}; }}')
        self.program("systemctl", 'echo "systemctl $*" >> "$SAID"')
        machine = 'mount -t tmpfs tmpfs /usr/sbin; "$0" true; status=$?; ls /usr/sbin; exit $status'
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", machine, self.engine],
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def test_what_it_installs_is_no_service_of_this_machine(self) -> None:
        copies = " ".join(f'"$BIN/{name}"' for name in ("docker", "dockerd", "docker-compose"))
        done = self.installed(f"for copy in {copies}; do echo exit 1 > $copy; chmod 755 $copy; done")
        self.assertEqual(
            self.said.read_text().splitlines(),
            ["policy 101", "systemctl --quiet disable docker.service docker.socket containerd.service"],
            done.stderr,
        )
        self.assertNotIn("policy-rc.d", done.stdout)

    def test_what_cannot_be_installed_is_told_and_leaves_no_policy(self) -> None:
        done = self.installed("exit 100")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stderr.splitlines()[-1], "containers: apt-get could not install docker.io and docker-compose"
        )
        self.assertNotIn("policy-rc.d", done.stdout)

    def test_a_command_that_does_not_end_is_ended(self) -> None:
        self.program("docker", DOCKER)
        self.program("docker-compose", "exit 0")
        self.program("dockerd", "exec sleep 600")
        started = self.root / "started"
        stubborn = f"trap '' TERM; touch {started}; while :; do sleep 0.1; done"
        with subprocess.Popen(
            [self.engine, "sh", "-c", stubborn], env=self.environment, stdout=subprocess.PIPE, text=True
        ) as engine:
            until(started.exists, "the command runs")
            engine.send_signal(signal.SIGTERM)
            self.assertEqual(engine.wait(30), 143)
        self.assertEqual(list((self.root / ".tools" / "containers").glob("engine")), [])

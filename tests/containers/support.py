"""What the tests of images and of the local stack share."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "example"
WORK = ROOT / ".tools" / "containers"
# So long until a wait is given up, in seconds. A busy machine is slow.
SOON = 180.0

# The bases that base.sh makes, and this machine's network while images are built.
BASES = {
    "RUST_BASE": "haulage-test/python",
    "PYTHON_BASE": "haulage-test/python",
    "NODE_BASE": "haulage-test/node",
    "BUILD_NETWORK": "host",
    "DOCKER_BUILDKIT": "0",
    "COMPOSE_DOCKER_CLI_BUILD": "0",
}


def run(*command: str | Path, **options: Any) -> str:
    """Runs a command; what it printed. Its lines are shown where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, command))} ended with code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout.strip()


def docker(*arguments: str | Path) -> str:
    return run("docker", *arguments)


def inspect(name: str) -> dict[str, Any]:
    """What the engine knows of an image or a container."""
    found: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return found


def build(
    tag: str, dockerfile: str, context: Path = ROOT, **arguments: str
) -> subprocess.CompletedProcess[str]:
    """Builds an image; says how it ended."""
    command = [
        "docker",
        "build",
        "--force-rm",
        "--network",
        "host",
        "--tag",
        tag,
        "--file",
        str(ROOT / dockerfile),
    ]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    return subprocess.run(
        [*command, str(context)], capture_output=True, text=True, env={**os.environ, **BASES}
    )


def built(tag: str, dockerfile: str, **arguments: str) -> None:
    """Builds an image, which has to work."""
    done = build(tag, dockerfile, **arguments)
    if done.returncode != 0:
        raise AssertionError(done.stdout[-3000:] + done.stderr[-3000:])


def clear_away(kind: str, command: str, stack: str) -> None:
    """Removes what there is of a kind that belongs to a stack."""
    label = f"label=com.docker.compose.project={stack}"
    found = docker(*kind.split(), "--quiet", "--filter", label).split()
    if found:
        docker(*command.split(), *found)


def until(holds: Callable[[], object], what: str) -> None:
    """Waits until something holds: of a container, nothing else tells."""
    end = time.monotonic() + SOON
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"after {SOON:.0f} s, not yet: {what}")
        time.sleep(0.1)


def free_port() -> int:
    """One that stays free until somebody listens at it: those from 32768 on are given to whoever asks
    for any, and to every connection (``ip_local_port_range``)."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Compose:
    """A stack of the example, under a name of its own."""

    def __init__(self, project: str, file: str = "compose.yaml", **environment: str) -> None:
        self.environment = {**os.environ, **BASES, "COMPOSE_PROJECT_NAME": project, **environment}
        self._base = ["docker", "compose"]
        if subprocess.run([*self._base, "version"], capture_output=True).returncode != 0:
            self._base = ["docker-compose"]
        self._file = file
        self.project = project

    def __call__(self, *arguments: str) -> str:
        return run(*self._base, "-f", self._file, *arguments, cwd=EXAMPLE, env=self.environment)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, running or not."""
        label = f"label=com.docker.compose.project={self.project}"
        ids = docker(
            "ps", "-aq", "--filter", label, "--filter", f"label=com.docker.compose.service={service}"
        )
        return ids.split()

    def is_healthy(self, service: str) -> bool:
        """Whether all containers of a service say that they are well."""
        states = [inspect(one)["State"] for one in self.containers(service)]
        return bool(states) and all(state.get("Health", {}).get("Status") == "healthy" for state in states)

    def down(self) -> None:
        self("down", "--volumes", "--timeout", "1")

    def logs(self) -> str:
        return self("logs", "--no-color", "--tail", "50")


def program() -> str:
    """The static program in the build context: of `make dist`, unless PROGRAM names one."""
    return _artefact("PROGRAM", f"haulage-*-{os.uname().machine}-unknown-linux-*.tar.gz")


def wheel() -> str:
    """The same of the wheel."""
    return _artefact("WHEEL", f"haulage-*manylinux*{os.uname().machine}.whl")


def scaler() -> Path:
    """The program of the scaling Lambda, which LAMBDA names."""
    program = Path(os.environ.get("LAMBDA", ""))
    if not program.is_file():
        raise SystemExit(
            "containers: name the program of the scaling Lambda by LAMBDA=…, as `make test-containers` does"
        )
    return program


def _artefact(variable: str, pattern: str) -> str:
    named = os.environ.get(variable)
    if named:
        return named
    # The last is for musl, where there is one.
    found = sorted((ROOT / "dist").glob(pattern))
    if not found:
        raise SystemExit(f"containers: dist has no {pattern}; run `make dist`, or name one by {variable}=…")
    return str(found[-1].relative_to(ROOT))


def host_python() -> Path:
    """An interpreter of this machine that has the wheel, as a user has."""
    folder = WORK / "venv"
    shutil.rmtree(folder, ignore_errors=True)
    run(os.environ.get("PYTHON", "python3"), "-m", "venv", folder)
    run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", ROOT / wheel())
    return folder / "bin" / "python"

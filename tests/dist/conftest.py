"""Where what is shipped lies, and what is installed of it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

DIST = Path(os.environ.get("DIST", "dist")).absolute()
HERE = platform.machine()


def run(*words: str | Path, cwd: Path | None = None, code: int = 0) -> str:
    """What a command writes to stdout, with nothing of this environment's but PATH."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def programs() -> list[Path]:
    return sorted(DIST.glob("*.tar.gz"))


def wheels() -> list[Path]:
    return sorted(DIST.glob("*.whl"))


def unpacked(archive: Path, folder: Path) -> Path:
    """The program in an archive."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz") / "haulage"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static program for this machine."""
    (archive,) = (path for path in programs() if HERE in path.name)
    return unpacked(archive, tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The programs of a virtual environment with the wheel for this machine, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", folder)
    (wheel,) = (path for path in wheels() if HERE in path.name and "manylinux" in path.name)
    run(folder / "bin" / "pip", "install", "--quiet", "--no-index", wheel)
    yield folder / "bin"

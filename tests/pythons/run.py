"""Tries a wheel on each Python that this machine has: `run.py WHEEL [VERSION…]`.

Which ones there are not is said. Those that are named have to be there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# As python/pyproject.toml has them.
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
SMOKE = Path(__file__).with_name("smoke.py")


def interpreter(version: str) -> str | None:
    """A Python of this version: of PATH, or of pyenv, whose own names work for some of them only."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    others = sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    for path in (shutil.which(f"python{version}"), *map(str, others)):
        if path and subprocess.run([path, "-c", "import venv"], capture_output=True).returncode == 0:
            return path
    return None


def failure(python: str, wheel: Path) -> str | None:
    """What goes wrong on a Python, in an environment with the wheel and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(SMOKE, folder)
        venv = Path(folder) / "venv"
        for words in (
            [python, "-m", "venv", venv],
            [venv / "bin/pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", wheel],
            [venv / "bin/python", "smoke.py"],
        ):
            # No settings of Haulage, and no other place of modules. pip itself is not free of warnings.
            environment = {"PATH": os.environ["PATH"]}
            if words[-1] == "smoke.py":
                environment["PYTHONWARNINGS"] = "error"
            done = subprocess.run(
                words,
                cwd=folder,
                env=environment,
                text=True,
                timeout=300,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            if done.returncode != 0:
                return done.stdout
    return None


def main() -> None:
    """Tries all of them, and fails if one does."""
    wheel, *required = sys.argv[1:]
    failed, tried = False, 0
    for version in required or VERSIONS:
        python = interpreter(version)
        if python is None:
            print(f"Python {version} is not there: not tried", flush=True)
            failed |= version in required
            continue
        tried += 1
        wrong = failure(python, Path(wheel).absolute())
        print(f"Python {version}: {'it works' if wrong is None else wrong}", flush=True)
        failed |= wrong is not None
    if failed or not tried:
        sys.exit(1)


if __name__ == "__main__":
    main()

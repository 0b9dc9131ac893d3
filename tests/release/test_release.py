"""What a release publishes, as far as that can be seen before it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "release"
CARGO = os.environ.get("CARGO", "cargo")


def run(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **{name: str(value) for name, value in options.items()}},
    )


def test_the_crates_can_be_packaged() -> None:
    crates = run(SCRIPTS / "crates.sh").stdout.split()
    assert "haulage" in crates and "haulage-servers" not in crates
    named = [word for crate in crates for word in ("--package", crate)]
    # What is compiled of it is what all tests compile.
    done = run(CARGO, "package", "--offline", "--locked", "--no-verify", "--allow-dirty", *named)
    assert done.returncode == 0, done.stderr
    for crate in crates:
        assert f"Packaging {crate} v" in done.stderr


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The script, in a repository of the version 0.2.0 whose changes have a date and are not the last."""
    folder = tmp_path / "scripts" / "release"
    folder.mkdir(parents=True)
    (tmp_path / "Cargo.toml").write_text('[workspace.package]\nversion = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changes\n\n## 0.2.0, 2027-01-31\n\n- This.\n\n## 0.1.0, 2026-12-31\n\n- That.\n"
    )
    return Path(shutil.copy(SCRIPTS / "notes.sh", folder))


def test_the_notes_are_the_changes_of_the_version(notes: Path) -> None:
    done = run(notes, "0.2.0")
    assert (done.returncode, done.stdout.strip()) == (0, "- This.")


@pytest.mark.parametrize(
    ("version", "heading", "says"),
    [
        ("0.3.0", "## 0.2.0, 2027-01-31", "the tag is of 0.3.0, and Cargo.toml says 0.2.0"),
        ("0.2.0", "## 0.2.0, not released yet", "says that 0.2.0 is not released yet"),
        ("0.2.0", "## 0.2.01, 2027-01-31", 'has no heading "## 0.2.0, DATE"'),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(notes: Path, version: str, heading: str, says: str) -> None:
    changes = notes.parents[2] / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("## 0.2.0, 2027-01-31", heading))
    done = run(notes, version)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr


@pytest.mark.parametrize(
    ("there", "published"),
    [
        ("", "publish --workspace --locked"),
        ("haulage@*", "publish --workspace --locked --exclude haulage"),
        ("*", None),
    ],
)
def test_what_is_published_already_is_left_out(tmp_path: Path, there: str, published: str | None) -> None:
    cargo = tmp_path / "cargo"
    cargo.write_text(
        f"""#!/bin/sh
case $1 in
metadata) exec "{CARGO}" "$@" ;;
info) for crate; do :; done; case $crate in {there or "none"}) exit 0 ;; esac; exit 101 ;;
publish) echo "$@" ;;
esac
"""
    )
    cargo.chmod(0o755)
    done = run(SCRIPTS / "publish.sh", CARGO=cargo)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("publish")] == (
        [published] if published else []
    )

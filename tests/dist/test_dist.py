"""What is shipped, as `make dist` has left it in dist/: small, complete, and it works."""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import subprocess
import time
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from conftest import DIST, HERE, programs, run, unpacked, wheels

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000
# Of a program, and of a wheel.
# With the server in it: 3 MB more than without one.
MOST_WITH_AWS = 19 * MEGABYTE
MOST_OF_A_WHEEL = 12 * MEGABYTE
# From the start of a worker to its first claim, in milliseconds. Where the machine is slow, or busy with
# something else: so many times what a start of the program takes that does nothing.
LONGEST_START = 10.0
LONGEST_RATIO = 3
# What else the machine does holds up some starts, and speeds up none.
STARTS, MOST_STARTS = 15, 100
# What a manylinux wheel may be linked with (PEP 600), as far as this one has a use for it.
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libgcc_s.so.1"}

TASKS = """
def double(body):
    return body * 2
"""


def say(capsys: pytest.CaptureFixture[str], what: str, value: str) -> None:
    with capsys.disabled():
        print(f"\n{what:58} {value}", end="", flush=True)


@pytest.mark.parametrize("archive", programs(), ids=lambda path: path.name)
def test_a_program_is_small_and_static(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = unpacked(archive, tmp_path)
    size = program.stat().st_size
    say(
        capsys,
        f"{archive.name}, the program in it",
        f"{size / MEGABYTE:.2f} MB of {MOST_WITH_AWS / MEGABYTE:.0f}",
    )
    assert size < MOST_WITH_AWS
    assert "INTERP" not in run("readelf", "--program-headers", "--wide", program)
    assert "NEEDED" not in run("readelf", "--dynamic", "--wide", program)
    beside = {path.name for path in program.parent.iterdir()}
    assert beside == {"haulage", "README.md", "LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY.txt"}


@pytest.mark.parametrize("wheel", wheels(), ids=lambda path: path.name)
def test_a_wheel_is_small_and_needs_no_newer_system_than_it_says(
    wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = wheel.stat().st_size
    say(capsys, wheel.name, f"{size / MEGABYTE:.2f} MB of {MOST_OF_A_WHEEL / MEGABYTE:.0f}")
    assert size < MOST_OF_A_WHEEL
    with zipfile.ZipFile(wheel) as members:
        (core,) = (name for name in members.namelist() if name.endswith(".so"))
        members.extract(core, tmp_path)
        names = {Path(name).name for name in members.namelist()}
    assert {"THIRD-PARTY.txt", "LICENSE-MIT", "LICENSE-APACHE"} <= names
    says = re.search(r"manylinux_2_(\d+)|musllinux_1_2", wheel.name)
    assert says is not None
    needed = set(
        re.findall(r"Shared library: \[(.*)\]", run("readelf", "--dynamic", "--wide", tmp_path / core))
    )
    if says[1] is None:
        assert {name.split(".so")[0] for name in needed} <= {"libc", "libgcc_s"}
        return
    assert {name for name in needed if not name.startswith("ld-linux")} <= LIBRARIES
    versions = run("readelf", "--version-info", "--wide", tmp_path / core)
    newest = max((2, 0), *((int(a), int(b)) for a, b in re.findall(r"GLIBC_(\d+)\.(\d+)", versions)))
    say(capsys, "  needs glibc", ".".join(map(str, newest)))
    assert newest <= (2, int(says[1]))


def test_checksums_are_those_of_all_files() -> None:
    lines = (DIST / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {path.name: path for path in DIST.iterdir() if path.name != "SHA256SUMS"}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == sums


def named(bom: str, texts: str, *crates: str) -> None:
    """These are in the bill of materials, and with the same version among the licences."""
    (content,) = (json.loads(path.read_text()) for path in DIST.glob(bom))
    assert content["bomFormat"] == "CycloneDX"
    components = {component["name"]: component for component in content["components"]}
    for name in crates:
        assert components[name]["licenses"]
        assert f"\n{name} {components[name]['version']}: " in texts


def test_what_is_linked_in_is_named_with_its_licence() -> None:
    (texts,) = (path.read_text() for path in DIST.glob("*-third-party-licenses.txt"))
    crates = ("aws-sdk-dynamodb", "aws-sdk-sqs", "clap", "libsqlite3-sys", "rustls", "tokio")
    named("haulage-[0-9]*.cdx.json", texts, *crates)


# There are none where only this machine's gnu target was built.
@pytest.mark.parametrize("package", sorted(DIST.glob("*.zip")), ids=lambda path: path.name)
def test_a_lambda_comes_with_its_licences(package: Path) -> None:
    with zipfile.ZipFile(package) as members:
        assert members.namelist() == ["bootstrap", "THIRD-PARTY.txt", "LICENSE-APACHE", "LICENSE-MIT"]
        texts = members.read("THIRD-PARTY.txt").decode()
    named("haulage-autoscale-*.cdx.json", texts, "aws-sdk-cloudwatch", "aws-sdk-ecs", "lambda_runtime")


def test_the_wheel_brings_the_whole_command_line(venv: Path, tmp_path: Path) -> None:
    haulage = venv / "haulage"
    assert [path.name for path in venv.parent.glob("lib/*/site-packages/haulage-*")] != []
    (tmp_path / "tasks.py").write_text(TASKS)
    first = run(haulage, "submit", "4", cwd=tmp_path).strip()
    run(haulage, "worker", "--until-empty", "--python", "tasks:double", cwd=tmp_path)
    assert run(haulage, "result", first, cwd=tmp_path) == "8\n"
    second = run(venv / "python", "-m", "haulage", "submit", '{"a": [1]}', cwd=tmp_path).strip()
    run(haulage, "worker", "--until-empty", "--exec", "cat", cwd=tmp_path)
    assert json.loads(run(haulage, "result", second, cwd=tmp_path)) == {"a": [1]}
    stats = json.loads(run(haulage, "--json", "stats", cwd=tmp_path))
    assert stats["success"] == 2
    run(haulage, "doctor", cwd=tmp_path)


def test_wheel_and_program_have_the_same_command_line(venv: Path, program: Path) -> None:
    for words in (["--help"], ["--version"], ["worker", "--help"], ["dead", "list", "--help"]):
        assert run(venv / "haulage", *words) == run(program, *words)


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot is for root; `make test-dist` says so before")
def test_the_program_runs_jobs_in_an_empty_root(program: Path, tmp_path: Path) -> None:
    # With what the kernel gives to every container, and no more.
    for folder in ("proc", "dev", "tmp"):
        (tmp_path / folder).mkdir()
    os.mknod(tmp_path / "dev" / "null", 0o666 | 0o020000, os.makedev(1, 3))
    os.mknod(tmp_path / "dev" / "urandom", 0o666 | 0o020000, os.makedev(1, 9))
    (tmp_path / "haulage").write_bytes(program.read_bytes())
    (tmp_path / "haulage").chmod(0o755)

    def haulage(*words: str) -> str:
        inside = 'mount -t proc proc "$0/proc" && exec chroot "$0" /haulage "$@"'
        return run("unshare", "--mount", "--pid", "--fork", "sh", "-c", inside, tmp_path, *words)

    job = haulage("submit", "1").strip()
    haulage("worker", "--until-empty", "--exec", "/haulage --json stats --url sqlite:///haulage.db")
    assert json.loads(haulage("result", job))["in_progress"] == 1


def test_it_starts_fast(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times: list[float] = []
    idle: list[float] = []
    limit = LONGEST_START
    while len(times) < STARTS or (min(times) >= limit and len(times) < MOST_STARTS):
        began = time.time()
        run(program, "--version", cwd=tmp_path)
        idle.append((time.time() - began) * 1e3)
        job = run(program, "submit", "1", cwd=tmp_path).strip()
        began = time.time()
        worker = subprocess.Popen(
            [program, "worker", "--max-jobs", "1", "--exec", "true"],
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
        )
        assert worker.wait(60) == 0
        record = json.loads(run(program, "--json", "status", job, cwd=tmp_path))
        claimed = datetime.fromisoformat(record["started_at"].replace("Z", "+00:00"))
        times.append((claimed.timestamp() - began) * 1e3)
        limit = max(LONGEST_START, LONGEST_RATIO * min(idle))
    say(
        capsys,
        "start of a worker to its first claim",
        f"{statistics.median(times):.1f} ms, at best {min(times):.1f} of {limit:.1f}; "
        f"a start that does nothing {min(idle):.1f}",
    )
    assert min(times) < limit


def test_this_machine_has_something_to_run() -> None:
    assert [path for path in wheels() if HERE in path.name], f"no wheel for {HERE}"
    assert [path for path in programs() if HERE in path.name], f"no program for {HERE}"


def test_a_target_that_cannot_be_had_is_named_and_nothing_is_built() -> None:
    before = sorted(DIST.iterdir())
    done = subprocess.run(
        [ROOT / "scripts" / "dist" / "build.sh", "nowhere-unknown-none"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "dist: Rust has no target nowhere-unknown-none here" in done.stderr
    assert sorted(DIST.iterdir()) == before


def test_a_build_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    # Cargo looks at the workspace, and fails at whatever takes longer.
    cargo = tmp_path / "cargo"
    cargo.write_text('#!/bin/sh\ncase "$*" in *--no-deps* | --version) exec cargo "$@" ;; esac\nexit 9\n')
    cargo.chmod(0o755)
    before = sorted(DIST.iterdir())
    done = subprocess.run(
        [ROOT / "scripts" / "dist" / "build.sh", f"{HERE}-unknown-linux-gnu"],
        env={**os.environ, "CARGO": str(cargo)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0, done.stdout
    assert sorted(DIST.iterdir()) == before

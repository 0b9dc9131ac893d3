"""The scaling Lambda from the file of a release: downloaded by an apply, held against its
hash, and not needed by a destroy. A curl of its own takes the place of the network.
"""

import hashlib
import os
import pathlib
import shutil

# All that the download runs.
PROGRAMS = ["cp", "cut", "dirname", "mkdir", "mv", "rm", "sh"]
URL = "https://github.com/haulage/haulage/releases/download/v0.1.0/haulage-autoscale-0.1.0-arm64.zip"


def check(stack, work: pathlib.Path, package: pathlib.Path) -> None:
    """`stack` makes one from the values of its variables."""
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    _program(work / "fetch" / "curl", f'while [ "$1" != --output ]; do shift; done; [ "$3" = {URL} ] && cp {package} "$2"')
    path = f"{work / 'fetch'}:{os.environ['PATH']}"
    said = stack({"url": URL, "sha256": "0" * 64})._run("apply", "-auto-approve", ok=(1,), PATH=path)
    assert f"{URL} has the sha256 {found}, not {'0' * 64}" in " ".join(said.stdout.split()), said.stdout + said.stderr
    # Where there is no sha256sum, as on macOS before 15.
    bare = work / "bare"
    _program(bare / "curl", f'exec {work / "fetch" / "curl"} "$@"')
    _program(bare / "shasum", f'[ "$1 $2" = "-a 256" ] && exec {shutil.which("sha256sum")} "$3"')
    for program in PROGRAMS:
        (bare / program).symlink_to(shutil.which(program))
    right = stack({"url": URL, "sha256": found})
    right._run("apply", "-auto-approve", PATH=str(bare))
    downloads = right.folder / ".terraform" / "haulage"
    assert {file.name: file.read_bytes() for file in downloads.iterdir()} == {f"{found}.zip": package.read_bytes()}
    right.assert_settled()
    shutil.rmtree(downloads)
    right.destroy()


def _program(file: pathlib.Path, script: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)

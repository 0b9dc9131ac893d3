"""Gathers the licences of what is linked in: `licenses.py wheel|lambda FILE TARGET…`.

The program is in the wheel; the Lambda is the one that scales. Each crate is named with its licence, and
with the texts that it comes with, those of C sources in it as well. A text that several have stands there
once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = {
    "wheel": ("haulage-python", "haulage-python/aws"),
    "lambda": ("haulage-autoscale", "haulage-autoscale/lambda"),
}
NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")

# What a program holds besides crates, if it is static.
REST = """\
Rust's standard library: MIT OR Apache-2.0, Copyright (c) The Rust Project Contributors.
musl, in programs and wheels for musl: MIT, Copyright (c) 2005-2020 Rich Felker, et al.
"""


def cargo(*words: str) -> str:
    done = subprocess.run([os.environ.get("CARGO", "cargo"), *words], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def linked(what: str, targets: list[str]) -> list[dict[str, Any]]:
    """What cargo knows of each crate that is part of it on these targets, those of the workspace included."""
    package, feature = PACKAGES[what]
    where = [word for target in targets for word in ("--target", target)]
    shown = ("--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}")
    tree = cargo("tree", "--locked", "--package", package, "--features", feature, *where, *shown)
    lines = (line.split() for line in tree.splitlines())
    names = {(name, version.removeprefix("v")) for name, version, *_ in filter(None, lines)}
    # With the targets, cargo has no need of what other systems would use.
    here = [word for target in targets for word in ("--filter-platform", target)]
    everything = cargo("metadata", "--locked", "--all-features", "--format-version", "1", *here)
    known = {(package["name"], package["version"]): package for package in json.loads(everything)["packages"]}
    return [known[name] for name in sorted(names)]


def texts(folder: Path) -> list[str]:
    files = [*folder.glob("*"), *folder.glob("*/*")]
    found = [file for file in files if file.is_file() and file.name.lower().startswith(NAMES)]
    # Sources may have such a name, too.
    found = [file for file in found if file.suffix in ("", ".md", ".txt") or file.suffix.isupper()]
    return [file.read_text(encoding="utf-8", errors="replace").strip() for file in sorted(found)]


def main(what: str, file: Path, targets: list[str]) -> None:
    # By the words, since the same text is broken into lines in many ways.
    users: dict[str, tuple[str, list[str]]] = {}
    lines = []
    for package in linked(what, targets):
        if package["source"] is None:
            continue
        crate = f"{package['name']} {package['version']}"
        lines.append(f"{crate}: {package['license'] or 'see its text below'}")
        for text in texts(Path(package["manifest_path"]).parent):
            users.setdefault(" ".join(text.split()), (text, []))[1].append(crate)
    if not lines:
        raise SystemExit("dist: found no crate whose licence could be named")
    parts = ["Haulage is MIT OR Apache-2.0. These are linked into it:", "\n".join(lines), REST.strip()]
    parts += [f"{'-' * 79}\n{', '.join(crates)}:\n\n{text}" for text, crates in users.values()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])

"""Gathers the licences of what is linked in: `licenses.py FILE TARGET…`.

Each crate is named with its licence, and with the texts that it comes with, those of C sources in it as
well. A text that several have stands there once.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

PACKAGE = ("--locked", "--package", "haulage-python", "--features", "haulage-python/aws")
NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")

# What a program holds besides crates, if it is static.
REST = """\
Rust's standard library: MIT OR Apache-2.0, Copyright (c) The Rust Project Contributors.
musl, in programs and wheels for musl: MIT, Copyright (c) 2005-2020 Rich Felker, et al.
"""


def cargo(*words: str) -> str:
    done = subprocess.run([os.environ.get("CARGO", "cargo"), *words], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


def linked(targets: list[str]) -> set[tuple[str, str]]:
    """The name and the version of each crate that is part of a program or a wheel."""
    where = [word for target in targets for word in ("--target", target)]
    tree = cargo(
        "tree", *PACKAGE, *where, "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"
    )
    lines = (line.split() for line in tree.splitlines())
    return {(name, version.removeprefix("v")) for name, version, *_ in filter(None, lines)}


def texts(folder: Path) -> list[str]:
    files = [*folder.glob("*"), *folder.glob("*/*")]
    found = [file for file in files if file.is_file() and file.name.lower().startswith(NAMES)]
    # Sources may have such a name, too.
    found = [file for file in found if file.suffix in ("", ".md", ".txt") or file.suffix.isupper()]
    return [file.read_text(encoding="utf-8", errors="replace").strip() for file in sorted(found)]


def main(file: Path, targets: list[str]) -> None:
    names = linked(targets)
    packages = json.loads(cargo("metadata", "--locked", "--format-version", "1"))["packages"]
    # By the words, since the same text is broken into lines in many ways.
    users: dict[str, tuple[str, list[str]]] = {}
    lines = []
    for package in sorted(packages, key=lambda package: (package["name"], package["version"])):
        if package["source"] is None or (package["name"], package["version"]) not in names:
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
    main(Path(sys.argv[1]), sys.argv[2:])

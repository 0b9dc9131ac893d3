"""Holds .github/dependabot.yml against the files.

It has to name each folder that has versions to keep current, and no other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from pages import ROOT, files


def of_terraform(path: Path) -> bool:
    """Modules take the providers that their stacks have."""
    if path.suffix != ".tf" or path.is_relative_to("terraform/modules"):
        return False
    return "required_providers" in (ROOT / path).read_text(encoding="utf-8")


# Which files each of its ecosystems is about.
ABOUT: dict[str, Callable[[Path], bool]] = {
    "cargo": lambda path: path.name == "Cargo.lock",
    "pip": lambda path: (
        path.name in ("requirements.txt", "scanners.txt") or path.name.endswith("-requirements.txt")
    ),
    "npm": lambda path: path.name == "package-lock.json",
    "docker": lambda path: path.name.endswith("Dockerfile"),
    "terraform": of_terraform,
}


def faults() -> list[str]:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"))["updates"]
    named = {update["package-ecosystem"]: set(update["directories"]) for update in updates}
    paths = files()
    found = []
    for ecosystem, is_about in ABOUT.items():
        there = {f"/{path.parent}".replace("/.", "/") for path in paths if is_about(path)}
        listed = named.get(ecosystem, set())
        found += [f"{ecosystem} leaves out {folder}" for folder in sorted(there - listed)]
        found += [f"{ecosystem} names {folder}, which has nothing of it" for folder in sorted(listed - there)]
    return found


if __name__ == "__main__":
    sys.exit("\n".join(f".github/dependabot.yml: {fault}" for fault in faults()) or 0)

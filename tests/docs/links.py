"""Links inside the repository lead to files that are there, and to headings on them."""

from __future__ import annotations

import os
from pathlib import Path

from pages import ROOT, Page


def faults(all_pages: list[Page], paths: list[Path]) -> tuple[list[str], int, int]:
    """What is wrong; how many links were looked at; how many lead elsewhere."""
    anchors = {page.path.relative_to(ROOT): page.anchors for page in all_pages}
    there = set(paths) | {parent for path in paths for parent in path.parents}
    wrong = []
    inside = outside = 0
    for page in all_pages:
        for line, link in page.links:
            if "://" in link or link.startswith("mailto:"):
                outside += 1
                continue
            inside += 1
            target, _, anchor = link.partition("#")
            where = f"{page.path.relative_to(ROOT)}:{line}"
            folder = page.path.parent
            path = Path(os.path.relpath(folder / target, ROOT)) if target else page.path.relative_to(ROOT)
            if path not in there:
                wrong.append(f"{where}: {link} leads to {path}, which is not in the repository")
            elif anchor and path.suffix == ".md" and anchor not in anchors[path]:
                wrong.append(f"{where}: {link}: {path} has no heading #{anchor}")
        for line, name, target in page.names:
            file = page.path.parent / target
            # A module is named by its file.
            if file.exists() and file.stem != name and name not in file.read_text(encoding="utf-8"):
                wrong.append(f"{page.path.relative_to(ROOT)}:{line}: there is no {name} in {target}")
    return wrong, inside, outside


def unlisted(summary: Page, all_pages: list[Page]) -> list[str]:
    """Pages of the book that its table of contents leaves out."""
    folder = summary.path.parent
    listed = {(folder / link).resolve() for _, link in summary.links}
    return [
        f"{page.path.relative_to(ROOT)} is not in {summary.path.relative_to(ROOT)}"
        for page in all_pages
        if page.path.is_relative_to(folder) and page.path not in listed and page is not summary
    ]

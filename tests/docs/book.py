"""Lays out the sources of the book in a folder, for mdBook: `book.py FOLDER`; and when it has built
the book, `book.py FOLDER --check` follows the links from page to page.

The pages of docs/ become the book, and so do the documents at the root of the repository that its
table of contents names. Links between these stay links; those to other files of the repository
lead to GitHub. So one text serves both: GitHub shows docs/ as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

from pages import HTML_LINK, LINK, ROOT, files, read

REPOSITORY = "https://github.com/haulage/haulage/blob/main"
DOCS = ROOT / "docs"
SUMMARY = DOCS / "SUMMARY.md"
# Where the book is published, with what `make docs` puts beside its pages.
PUBLISHED = "https://haulage.github.io/haulage/"


def main() -> None:
    book, *check = sys.argv[1:]
    if check:
        sys.exit("\n".join(_broken(Path(book) / "html")) or 0)
    _lay_out(Path(book))


def _lay_out(book: Path) -> None:
    source = book / "src"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    shutil.copy(DOCS / "book.toml", book / "book.toml")
    places = _places()
    for path in files():
        file = ROOT / path
        if file.is_relative_to(DOCS) and file.suffix not in (".md", ".toml"):
            target = source / file.relative_to(DOCS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    for file, place in {**places, SUMMARY: Path("SUMMARY.md")}.items():
        target = source / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_rewritten(file, place, places), encoding="utf-8")


def _broken(html: Path) -> list[str]:
    """Links of pages to what is not there. The references of Rust and Python look after theirs."""
    html = html.resolve()
    ids = {}
    for page in html.rglob("*.html"):
        if not page.is_relative_to(html / "api"):
            ids[page] = set(re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8")))
    found = []
    for page in ids:
        if page.name in ("404.html", "print.html", "toc.html"):
            continue
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', page.read_text(encoding="utf-8")):
            target, _, anchor = unescape(link).partition("#")
            if "://" in target or target.startswith(("mailto:", "data:")):
                continue
            path = (page.parent / target).resolve() if target else page
            if path.is_relative_to(html / "api") and not (html / "api").exists():
                continue  # the pages alone
            if not path.exists() or (anchor and path in ids and unquote(anchor) not in ids[path]):
                found.append(f"{page.relative_to(html)}: {link} leads nowhere")
    return sorted(set(found))


def _places() -> dict[Path, Path]:
    """Where each page of the book lies in it."""
    places = {}
    for _, link in read(SUMMARY).links:
        file = (DOCS / link).resolve()
        inside = file.is_relative_to(DOCS)
        places[file] = file.relative_to(DOCS) if inside else Path("project", file.name.lower())
    return places


def _rewritten(file: Path, place: Path, places: dict[Path, Path]) -> str:
    def link(match: re.Match[str]) -> str:
        target, _, anchor = match[1].partition("#")
        if match[1].startswith(PUBLISHED):
            return match[0].replace(match[1], os.path.relpath(match[1].removeprefix(PUBLISHED), place.parent))
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (file.parent / target).resolve()
        if path in places:
            new = os.path.relpath(places[path], place.parent)
        elif path.is_relative_to(DOCS) and path.suffix != ".md":
            new = os.path.relpath(path.relative_to(DOCS), place.parent)
        else:
            new = f"{REPOSITORY}/{path.relative_to(ROOT)}"
        return match[0].replace(match[1], new + (f"#{anchor}" if anchor else ""))

    fenced = False
    lines = []
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            line = HTML_LINK.sub(link, LINK.sub(link, line))
        lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    main()

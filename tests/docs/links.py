"""Links inside the repository lead to files that are there, and to headings on them; those to other
sites, to something that answers."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from book import PUBLISHED, REPOSITORY
from pages import ROOT, Page

# How often a site is asked that does not answer, and how long it may take, in seconds.
TRIES, PATIENCE = 3, 30
# What means that there is something. Some sites keep programs out, or slow them down.
THERE = {"200", "403", "429"}


def faults(all_pages: list[Page], paths: list[Path]) -> tuple[list[str], int, int]:
    """What is wrong; how many links were looked at; how many lead elsewhere."""
    anchors = {page.path.relative_to(ROOT): page.anchors for page in all_pages}
    there = set(paths) | {parent for path in paths for parent in path.parents}
    wrong = []
    inside = outside = 0
    for page in all_pages:
        for line, link in page.links:
            folder = page.path.parent
            # What PyPI shows as well has its links in full.
            if link.startswith(f"{REPOSITORY}/"):
                link, folder = link.removeprefix(f"{REPOSITORY}/"), ROOT
            if "://" in link or link.startswith("mailto:"):
                outside += 1
                continue
            inside += 1
            target, _, anchor = link.partition("#")
            where = f"{page.path.relative_to(ROOT)}:{line}"
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


def unanswered(all_pages: list[Page]) -> list[str]:
    """Links to other sites that lead nowhere. What `make docs` publishes is looked after by book.py."""
    links = {
        link: f"{page.path.relative_to(ROOT)}:{line}"
        for page in all_pages
        for line, link in page.links
        if link.startswith(("http://", "https://")) and not link.startswith((PUBLISHED, f"{REPOSITORY}/"))
    }
    with ThreadPoolExecutor() as pool:
        answers = dict(zip(links, pool.map(_asked, links), strict=True))
    for link, answer in answers.items():
        print(f"{link}: {answer}")
    return [f"{links[link]}: {link}: {answer}" for link, answer in answers.items() if answer not in THERE]


def _asked(link: str) -> str:
    """The code of the answer, or why there is none."""
    request = urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0 (links of Haulage's docs)"})
    said = ""
    for attempt in range(TRIES):
        time.sleep(5 * attempt)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return str(answer.status)
        except urllib.error.HTTPError as error:
            said = str(error.code)
            if error.code < 500:
                break
        except OSError as error:
            said = str(error)
    return said


def unlisted(summary: Page, all_pages: list[Page]) -> list[str]:
    """Pages of the book that its table of contents leaves out."""
    folder = summary.path.parent
    listed = {(folder / link).resolve() for _, link in summary.links}
    return [
        f"{page.path.relative_to(ROOT)} is not in {summary.path.relative_to(ROOT)}"
        for page in all_pages
        if page.path.is_relative_to(folder) and page.path not in listed and page is not summary
    ]

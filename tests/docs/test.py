"""Tests the documentation: its links, its pages made from other things, and its commands.

`test.py HAULAGE PYTHON`: the program, and an interpreter that has the package `haulage`.
Names of pages behind them limit what is run. `test.py --links`: only what needs no program.
`test.py --outside`: only whether links to other sites are answered.

Pages whose commands need more than Haulage (`NEEDS`) are left out where that is missing, unless
they are named.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands
import links
from pages import ROOT, Page, files, pages

import terraform

# Pages that a program makes: their blocks are what it says of itself.
MADE = {"docs/cli.md", "docs/environment.md", "docs/terraform.md"}
# What the commands of a page need besides.
NEEDS = {"docs/serve.md": ("curl", "jq")}
# For whoever changes Haulage rather than for whoever uses it.
PROJECT = {"ARCHITECTURE.md", "CHANGELOG.md", "docs/SUMMARY.md"}


def main() -> int:
    paths = files()
    everything = pages(paths)
    if sys.argv[1:] == ["--outside"]:
        return told(links.unanswered(everything))
    wrong, inside, outside = links.faults(everything, paths)
    summary = next(page for page in everything if page.path == ROOT / "docs/SUMMARY.md")
    wrong += links.unlisted(summary, everything)
    wrong += terraform.faults()
    print(f"{len(everything)} pages; {inside} links lead to files that are there, {outside} elsewhere")
    if sys.argv[1:] != ["--links"]:
        wrong += run(everything, *sys.argv[1:])
    return told(wrong)


def told(wrong: list[str]) -> int:
    """The exit code, after what is wrong has been printed."""
    for fault in wrong:
        print(f"\n{fault}", file=sys.stderr)
    print(f"{len(wrong)} faults")
    return 1 if wrong else 0


def run(everything: list[Page], program: str, python: str, *names: str) -> list[str]:
    """Runs the commands of these pages, of all where none is named; what is wrong."""
    with_commands = [
        page
        for page in everything
        if str(page.path.relative_to(ROOT)) not in MADE | PROJECT
        and (not names or str(page.path.relative_to(ROOT)) in names)
    ]
    interpreter = str(Path(python).absolute())
    programs = {"haulage": str(Path(program).absolute()), "python3": interpreter, "python": interpreter}
    left_out: Counter[str] = Counter()
    for page in list(with_commands):
        needs = NEEDS.get(str(page.path.relative_to(ROOT)), ())
        if not names and not all(map(shutil.which, needs)):
            with_commands.remove(page)
            reason = (
                f"needs {' and '.join(needs)}, not both of which are here; `make test-docs-http` runs them"
            )
            left_out[reason] += commands.count(page)
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        reports = list(pool.map(lambda page: commands.run(page, programs), with_commands))

    elsewhere: Counter[str] = Counter()
    for report in reports:
        elsewhere.update(report.elsewhere)
        left_out.update(report.left_out)
    print(f"{sum(report.ran for report in reports)} commands ran, with {sum(r.files for r in reports)} files")
    print(f"{elsewhere.total()} are run by other tests:")
    for name, count in sorted(elsewhere.items()):
        print(f"  {count:3} {name}")
    print(f"{left_out.total()} were left out:")
    for name, count in left_out.most_common():
        print(f"  {count:3} {name}")
    slowest = max(reports, key=lambda report: report.seconds)
    print(f"slowest: {slowest.page.relative_to(ROOT)}, {slowest.seconds:.1f} s")
    return [fault for report in reports for fault in report.faults]


if __name__ == "__main__":
    sys.exit(main())

"""Tests the documentation: its links, its pages made from other things, and its commands.

`test.py HAULAGE PYTHON`: the program, and an interpreter that has the package `haulage`.
Names of pages behind them limit what is run.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands
import links
from pages import ROOT, files, pages

import terraform

# Pages that a program makes: their blocks are what it says of itself.
MADE = {"docs/cli.md", "docs/environment.md", "docs/terraform.md"}
# For whoever changes Haulage rather than for whoever uses it.
PROJECT = {"ARCHITECTURE.md", "CHANGELOG.md", "docs/SUMMARY.md"}


def main() -> int:
    program, python, *names = sys.argv[1:]
    paths = files()
    everything = pages(paths)
    wrong, inside, outside = links.faults(everything, paths)
    summary = next(page for page in everything if page.path == ROOT / "docs/SUMMARY.md")
    wrong += links.unlisted(summary, everything)
    wrong += terraform.faults()

    with_commands = [
        page
        for page in everything
        if str(page.path.relative_to(ROOT)) not in MADE | PROJECT
        and (not names or str(page.path.relative_to(ROOT)) in names)
    ]
    programs = {
        "haulage": str(Path(program).absolute()),
        "python3": str(Path(python).absolute()),
        "python": str(Path(python).absolute()),
    }
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        reports = list(pool.map(lambda page: commands.run(page, programs), with_commands))
    wrong += [fault for report in reports for fault in report.faults]

    elsewhere: dict[str, int] = {}
    left_out: dict[str, int] = {}
    for report in reports:
        for total, part in ((elsewhere, report.elsewhere), (left_out, report.left_out)):
            for name, count in part.items():
                total[name] = total.get(name, 0) + count
    print(f"{len(everything)} pages; {inside} links lead to files that are there, {outside} elsewhere")
    ran, written = sum(report.ran for report in reports), sum(report.files for report in reports)
    print(f"{ran} commands ran, with {written} files")
    print(f"{sum(elsewhere.values())} are run by other tests:")
    for name, count in sorted(elsewhere.items()):
        print(f"  {count:3} {name}")
    print(f"{sum(left_out.values())} were left out:")
    for name, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {count:3} {name}")
    slowest = max(reports, key=lambda report: report.seconds)
    print(f"slowest: {slowest.page.relative_to(ROOT)}, {slowest.seconds:.1f} s")
    for fault in wrong:
        print(f"\n{fault}", file=sys.stderr)
    print(f"{len(wrong)} faults", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Changes the code, one place at a time, and sees whether the tests notice.

    run.py CARGO-MUTANTS [--files "retry.rs sqlite/tx.rs"] [--shard 0/8] [ARGUMENTS OF CARGO-MUTANTS]

What is changed, and which tests have to notice, is in `.cargo/mutants.toml`.
A change that no test notices is a survivor: it is mended by a test, or listed
in `survivors.txt` with the reason why no test can tell. Fails where a survivor
is not listed. A change that makes a test wait for ever counts as noticed.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
OUTPUT = ROOT / ".tools"
PACKAGE = "crates/haulage/src/"
# Some tests fail, or take too long: with a change, that is what is wanted.
EXPECTED = (0, 2, 3)


def without_place(mutant: str) -> str:
    """The change without its line and column, which move: the file and what is done."""
    path, _, change = mutant.strip().removeprefix(PACKAGE).partition(":")
    return f"{path}: {re.sub(r'^[0-9]+:[0-9]+: ', '', change.strip())}"


def listed() -> collections.Counter[str]:
    """The known survivors, each as often as it is there; below each, indented, is why."""
    survivors: collections.Counter[str] = collections.Counter()
    reason = True
    for line in (HERE / "survivors.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            reason = True
            continue
        survivors[line] += 1
        reason = False
    if not reason:
        sys.exit("survivors.txt: the last survivor has no reason")
    return survivors


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cargo_mutants")
    parser.add_argument("--files", default="")
    parser.add_argument("--shard", default="")
    options, more = parser.parse_known_args()
    known = listed()

    command = [options.cargo_mutants, "mutants", "--package", "haulage"]
    command += ["--no-shuffle", "--caught", "--output", str(OUTPUT)]
    files = options.files.split()
    if files:
        command += ["--re", "src/({}):".format("|".join(map(re.escape, files)))]
    if options.shard:
        command += ["--shard", options.shard]
    code = subprocess.run(command + more, cwd=ROOT).returncode
    if code not in EXPECTED:
        sys.exit(f"cargo-mutants ended with {code}")

    results = OUTPUT / "mutants.out"
    missed = (results / "missed.txt").read_text().splitlines()
    survivors = collections.Counter(map(without_place, missed))
    for survivor in sorted((survivors - known).elements()):
        print(f"survives, and is not listed: {survivor}")
    # Of other files, or another shard, nothing is known.
    if not options.shard and not more:
        for survivor in sorted((known - survivors).elements()):
            if not files or survivor.partition(":")[0] in files:
                print(f"is listed, and does not survive any more: {survivor}")
    if survivors - known:
        sys.exit("mend it with a test, or list it in tests/mutants/survivors.txt with the reason")
    print(f"{survivors.total()} survivors, all listed")


if __name__ == "__main__":
    main()

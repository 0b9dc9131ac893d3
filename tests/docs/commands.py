"""Runs the commands of a page, in their order, in a folder of their own.

A block of `sh` or `console` is run in one shell with the blocks before it. In a `console`
block, what stands below a command is what it prints: `…` is anything, and `ID` an id. Other
blocks whose first line is a comment with a file's name, such as `# tasks.py`, are that file.

Comments directly before a block say what is to be done with it:

    <!-- not run: needs an AWS account -->      with the reason
    <!-- run by crates/haulage/src/lib.rs -->   a test or a workflow of the repository runs it: that
                                                has all of its commands, or names the page
    <!-- first                                  commands that are run before, for what
    ID=$(haulage submit 1)                      the reader has and the test has not
    -->
    <!-- ends with 4 -->                        the exit code of its last command
    <!-- prints -->                             the block is what the one before it prints
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import tomllib
from pages import ROOT, SHELL, Block, Page

# What takes longer than this hangs.
LONG = 300
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
PORT = re.compile(r"\b(?:127\.0\.0\.1|localhost):(\d{4,5})\b")
CODE = ("python", "rust")


@dataclass
class Report:
    """What became of the commands of a page."""

    page: Path
    ran: int = 0
    files: int = 0
    # The count of commands by the test that runs them, and by the reason that none does.
    elsewhere: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0


@dataclass
class Step:
    """Commands that are run as one."""

    block: Block
    text: str
    # What is to be printed, if that is said.
    expected: str | None = None
    code: int = 0
    # Whether the reader sees it.
    shown: bool = True


def count(page: Page) -> int:
    """How many commands of a page are run."""
    report = Report(page.path)
    _steps(page, report)
    return report.ran


def run(page: Page, programs: dict[str, str]) -> Report:
    report = Report(page.path)
    began = time.monotonic()
    steps = _steps(page, report)
    if any(step.shown for step in steps) and not report.faults:
        with tempfile.TemporaryDirectory(prefix="docs-") as folder:
            _run(steps, Path(folder), programs, report)
    report.seconds = time.monotonic() - began
    return report


def _steps(page: Page, report: Report) -> list[Step]:
    steps: list[Step] = []
    for block in page.blocks:
        _form(block, report)
        first = block.comment("first")
        if first is not None:
            steps.append(Step(block, first, shown=False))
        reason = block.comment("not run")
        elsewhere = next(
            (c[7:].split(":")[0].strip() for c in block.comments if c.startswith("run by ")), None
        )
        count = len(_commands(block)) if block.language in SHELL else 1
        if block.comment("prints") is not None:
            if steps and steps[-1].shown:
                steps[-1].expected = block.text
            else:
                report.faults.append(f"{block.where}: there are no commands before it that print")
        elif reason is not None:
            if not reason:
                report.faults.append(f"{block.where}: it says no reason")
            report.left_out[reason] = report.left_out.get(reason, 0) + count
        elif elsewhere is not None:
            if not (ROOT / elsewhere).is_file():
                report.faults.append(f"{block.where}: there is no {elsewhere}")
            elif not _has(ROOT / elsewhere, block):
                report.faults.append(
                    f"{block.where}: {elsewhere} has not all of it, and does not name the page"
                )
            report.elsewhere[elsewhere] = report.elsewhere.get(elsewhere, 0) + count
        elif block.language in SHELL:
            steps += _shell(block)
            report.ran += count
        elif name := block.file:
            parent = os.path.dirname(name)
            make = f"mkdir -p '{parent}'\n" if parent else ""
            steps.append(
                Step(block, f"{make}cat > '{name}' <<'END OF FILE'\n{block.text}END OF FILE", shown=False)
            )
            report.files += 1
        elif block.language == "python":
            steps.append(Step(block, f"python3 - <<'END OF FILE'\n{block.text}END OF FILE"))
            report.ran += 1
        elif block.language in CODE:
            report.faults.append(f"{block.where}: no test runs it, and it does not say why")
    return steps


def _has(file: Path, block: Block) -> bool:
    """Whether a file has the commands of a block, or the lines of a program, or else names the page."""
    text = file.read_text(encoding="utf-8")
    # Of another README, the folder stands before the name. A workflow names pages besides what it runs.
    if file.suffix != ".yml" and re.search(
        rf"(?<![\w/])(?:\.\./)*{re.escape(str(block.page.relative_to(ROOT)))}", text
    ):
        return True
    lines = _commands(block) if block.language in SHELL else block.text.split("\n")
    folded = " ".join(text.split())
    return all(" ".join(re.sub(r"\s+# .*", "", line).split()) in folded for line in lines)


def _form(block: Block, report: Report) -> None:
    """What can be seen without running it."""
    try:
        if block.language == "python":
            compile(block.text, block.where, "exec", flags=0x2000)  # with `await` at the top
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "yaml":
            import yaml

            list(yaml.safe_load_all(block.text))
        elif block.language == "":
            report.faults.append(f"{block.where}: it does not say its language")
    except (SyntaxError, ValueError) as error:
        report.faults.append(f"{block.where}: {error}")
    except Exception as error:  # of the YAML
        report.faults.append(f"{block.where}: {str(error).splitlines()[0]}")


def _commands(block: Block) -> list[str]:
    """Its commands, each with the lines that go on with it."""
    found: list[str] = []
    end = None
    goes_on = False
    for line in block.text.split("\n"):
        if end is not None:
            found[-1] += "\n" + line
            end = None if line.strip() == end else end
            continue
        if block.language == "console":
            if goes_on:
                line = line.removeprefix("> ")
            elif line.startswith("$ "):
                line = line[2:]
            else:
                continue
        if goes_on:
            found[-1] += "\n" + line
        elif line.strip() and not line.lstrip().startswith("#"):
            found.append(line)
        else:
            continue
        quotes = found[-1].count("'")
        goes_on = line.endswith("\\") or line.endswith("|") or quotes % 2 == 1
        heredoc = re.search(r"<<-?'?(\w+)'?", line)
        end = heredoc[1] if heredoc else None
    return found


def _shell(block: Block) -> list[Step]:
    code = next((int(c.split()[-1]) for c in block.comments if c.startswith("ends with ")), 0)
    if block.language == "sh":
        return [Step(block, block.text, code=code)]
    steps = []
    rest = block.text
    for command in _commands(block):
        _, _, rest = rest.partition("$ " + command.split("\n")[0])
        for line in command.split("\n")[1:]:
            _, _, rest = rest.partition(line)
        output = re.split(r"^\$ ", rest.lstrip(" ").removeprefix("\n"), maxsplit=1, flags=re.MULTILINE)[0]
        steps.append(Step(block, command, output if output.strip() else None))
    steps[-1].code = code
    return steps


def _run(steps: list[Step], place: Path, programs: dict[str, str], report: Report) -> None:
    folder, work = place / "bin", place / "work"
    folder.mkdir()
    work.mkdir()
    for name, program in programs.items():
        # No link: an interpreter finds its virtual environment by its path.
        (folder / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
        (folder / name).chmod(0o755)
    ports = {port: str(_free()) for step in steps for port in PORT.findall(step.text)}
    script = ["set -euo pipefail", "ID="]
    for number, step in enumerate(steps):
        text = step.text
        for port, free in ports.items():
            text = re.sub(rf"\b{port}\b", free, text)
        if "END OF FILE" not in text:
            text = re.sub(r"(?<![\w$-])ID\b(?!=)", '"$ID"', text)
        (place / f"{number}.sh").write_text(text + "\n")
        script.append(f"echo {number} > {place}/step")
        errors = "2>&1" if step.block.language == "console" else f"2> {place}/{number}.err"
        call = f"source {place}/{number}.sh > {place}/{number}.out {errors}"
        if step.code:
            script += ["set +e", call, f"code=$?; set -e; [ $code = {step.code} ] || exit $((code + 0))"]
        else:
            script.append(call)
    (place / "all.sh").write_text("\n".join(script) + "\n")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HAULAGE_", "AWS_"))
    }
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(work), "NO_COLOR": "1"}
    # scikit-learn would warn where there is no /dev/shm, as in small containers.
    environment["JOBLIB_MULTIPROCESSING"] = "0"
    process = subprocess.Popen(
        ["bash", str(place / "all.sh")],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code: int | None = process.wait(timeout=LONG)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        _end(process)
    number = int((place / "step").read_text())
    if code != 0:
        step = steps[number]
        said = _said(place, number)
        logs = "".join(f"{log.name}: {log.read_text()[-2000:]}\n" for log in work.glob("*.log"))
        ended = f"it took longer than {LONG} s" if code is None else f"it ended with {code}"
        report.faults.append(f"{step.block.where}: {ended}\n{step.text}\n{said}\n{logs}")
        return
    for number, step in enumerate(steps):
        if step.expected is not None:
            printed = (place / f"{number}.out").read_text()
            for port, free in ports.items():
                printed = printed.replace(free, port)
            if not _pattern(step.expected).fullmatch(_trimmed(printed)):
                report.faults.append(
                    f"{step.block.where}: {step.text}\nprints\n{printed}\nand not\n{step.expected}"
                    f"{_said(place, number)}"
                )


def _said(place: Path, number: int) -> str:
    """The end of what a step has printed beside its output."""
    errors = place / f"{number}.err"
    return (errors if errors.exists() else place / f"{number}.out").read_text()[-3000:]


def _trimmed(text: str) -> str:
    return "".join(line.rstrip() + "\n" for line in text.strip("\n").split("\n"))


def _pattern(expected: str) -> re.Pattern[str]:
    lines = []
    for line in _trimmed(expected).splitlines():
        if line.strip() == "…":
            lines.append("(?:.*\n)*?")
            continue
        line = re.escape(line).replace("…", ".*?")
        # Columns are as wide as what is in them.
        line = re.sub(r"(?:\\ ){2,}", r" +", line)
        lines.append(re.sub(r"\bID\b", f"(?:ID|{UUID})", line) + "\n")
    return re.compile("".join(lines))


# Pages run side by side.
_given: set[int] = set()


def _free() -> int:
    """A port that stays free until a page listens at it: those from 32768 on are given to whoever asks
    for any, and to every connection (``ip_local_port_range``)."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what the page started; a shell without job control keeps it in its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.02)

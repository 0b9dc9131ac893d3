"""The page of the Terraform's variables and outputs, made from the configuration.

Run by itself, it writes docs/terraform.md anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from pages import ROOT

PAGE = ROOT / "docs/terraform.md"
HEAD = """# Terraform: variables and outputs

<!-- Made by tests/docs/terraform.py from the configuration: edit there. -->

The three stacks, and the modules that they are made of. [Deploying on AWS](deploy.md) has the way from
an empty account to a first result, and says which of the variables matter. A variable without a default
has to be given.
"""
STACKS = {
    "endpoints": "Once for each VPC: the endpoints by which tasks reach AWS, without a way to the internet.",
    "scaler": "One scaling Lambda for many pipelines, and for services that are there already.",
    "inference_pipeline": "Any number for each VPC: queue, records, tasks, scaling and alarms.",
}
MODULES = (
    "queue",
    "table",
    "bucket",
    "repository",
    "key",
    "access",
    "completion_events",
    "task_tokens",
    "worker",
    "scaler",
    "scaling_alarms",
    "alarms",
    "endpoints",
    "event_logs",
)


def page() -> str:
    parts = [HEAD]
    for name, text in STACKS.items():
        parts.append(f"## The stack `{name}`\n\n{text}\n\n{_tables(ROOT / 'terraform' / name)}")
    folder = ROOT / "terraform/modules"
    missing = {path.name for path in folder.iterdir()} ^ set(MODULES)
    if missing:
        raise SystemExit(f"tests/docs/terraform.py and {folder.relative_to(ROOT)} differ in {missing}")
    for name in MODULES:
        parts.append(f"## The module `{name}`\n\n{_tables(folder / name)}")
    return "\n".join(parts)


def faults() -> list[str]:
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return []
    return ["docs/terraform.md is out of date; python3 tests/docs/terraform.py writes it anew"]


def _tables(folder: Path) -> str:
    files = sorted(folder.glob("variables*.tf"))
    parts = [_variables(file, headed=len(files) > 1) for file in files]
    if (folder / "outputs.tf").exists():
        rows = [
            f"| `{name}` | {_description(block)} |"
            for name, block in _blocks(folder / "outputs.tf", "output")
        ]
        parts.append("\n".join(["| output | |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _variables(file: Path, headed: bool) -> str:
    """The variables of a file, below what its first line says where there are several."""
    rows = ["| variable | type | default | |", "| --- | --- | --- | --- |"]
    for name, block in _blocks(file, "variable"):
        default = _value(block, "default")
        rows.append(
            f"| `{name}` | {_code(_value(block, 'type') or 'any')} "
            f"| {'' if default is None else _code(default)} | {_description(block)} |"
        )
    if headed:
        title = re.match(r"# (.*)\n\n", file.read_text(encoding="utf-8"))
        if title is None:
            raise SystemExit(f"{file}: the first line has to say what it has, as in `# The tasks.`")
        rows[:0] = [title[1], ""]
    return "\n".join(rows)


def _blocks(file: Path, kind: str) -> list[tuple[str, str]]:
    return re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}', file.read_text(encoding="utf-8"), re.M | re.S)


def _description(block: str) -> str:
    found = re.search(r'^  description\s*= "((?:[^"\\]|\\.)*)"$', block, re.M)
    if found is None:
        raise SystemExit(f"a description of one line is missing in\n{block}")
    text = re.sub(r"\\(.)", r"\1", found[1]).replace("$${", "${")
    return text.replace("|", "\\|").replace("<", "&lt;")


def _value(block: str, name: str) -> str | None:
    """An argument as it is written, on one line."""
    found = re.search(rf"^  {name}\s*= (.*)", block, re.M)
    if found is None:
        return None
    text = found[1].strip()
    if sum(map(text.count, "{[(")) > sum(map(text.count, "}])")):
        rest = block[found.end() :]
        end = re.search(r"^  [\])}]+.*$", rest, re.M)
        assert end is not None, block
        lines = [re.sub(r"\s+#.*", "", line).strip() for line in rest[: end.end()].split("\n")]
        lines = [line.rstrip(",") for line in lines if line and not line.startswith("#")]
        text += " " + ", ".join(lines[:-1]) + " " + lines[-1]
    # Brackets within it may go over several lines as well.
    text = re.sub(r"([({\[]), ", r"\1 ", re.sub(r", ([})\]])", r" \1", text))
    return re.sub(r"\s+", " ", text)


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""What the pages of the documentation consist of: headings, links and blocks of code.

`pages.py FOLDER PAGE …` writes into the folder what is a file on these pages.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What git ignores, and a virtual environment as the README has it.
NOT_OURS = {".git", ".tools", ".terraform", "__pycache__", "node_modules", "target", "venv"}
SHELL = ("sh", "console")
# The first line of a block that is a file, in whichever kind of comment.
FILE = re.compile(r"^(?:#|//|;|<!--) (\S+\.\w+|\S*/\S+|Dockerfile)(?: -->)?$")
FENCE = re.compile(r"^( *)(`{3,})(\S*)\s*$")
COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
# A link or an image, and one in a reference or in HTML. Titles are not used here.
LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^()\s>]+(?:\([^()\s]*\))?)>?\)")
HTML_LINK = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"]+)\"")


@dataclass
class Block:
    """A block of code, and the comments that stand directly before it."""

    page: Path
    line: int
    language: str
    text: str
    comments: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """Of which file this is the text, relative to the reader's folder or to the root."""
        named = None if self.language in SHELL else FILE.match(self.text.split("\n", 1)[0])
        return named[1].lstrip("/") if named else None

    def comment(self, name: str) -> str | None:
        """What stands behind this name in a comment before the block."""
        for comment in self.comments:
            if comment == name or comment.startswith((f"{name}:", f"{name}\n")):
                return comment[len(name) + 1 :].strip()
        return None


@dataclass
class Page:
    """A page, read."""

    path: Path
    blocks: list[Block]
    # Line and target.
    links: list[tuple[int, str]]
    # Line, name and target of links to what a file of code defines.
    names: list[tuple[int, str, str]]
    anchors: set[str]


def files() -> list[Path]:
    """The files of the repository, relative to its root; without git, which not every machine has."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        found += [Path(folder, name).relative_to(ROOT) for name in names]
    return sorted(found)


def pages(paths: list[Path]) -> list[Page]:
    """All pages of the repository."""
    return [read(ROOT / file) for file in paths if file.suffix == ".md"]


def read(path: Path) -> Page:
    blocks: list[Block] = []
    prose: list[str] = []
    anchors: set[str] = set()
    block: Block | None = None
    ticks = ""
    indent = 0
    comments: list[str] = []
    lines = path.read_text(encoding="utf-8").split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        fence = FENCE.match(line)
        if block is not None:
            if fence and fence[2] == ticks and not fence[3]:
                blocks.append(block)
                block = None
            else:
                block.text += line[indent:] + "\n"
            prose.append("")
            continue
        if fence:
            indent, ticks = len(fence[1]), fence[2]
            block = Block(path, number, fence[3].split(",")[0], "", comments)
            comments = []
            prose.append("")
            continue
        if line.lstrip().startswith("<!--"):
            start = number
            while "-->" not in line:
                line += "\n" + lines[number]
                number += 1
            comments.append(COMMENT.search(line)[1].strip())  # type: ignore[index]
            prose += [""] * (number - start + 1)
            continue
        if line.strip():
            comments = []
        if line.startswith("#"):
            anchors.add(_unused(_anchor(line), anchors))
        anchors.update(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", line))
        prose.append(re.sub(r"`[^`]*`", lambda code: "`" * len(code[0]), line))
    if block is not None:
        raise SystemExit(f"{block.where}: the block has no end")
    text = "\n".join(prose)
    names = [
        (number, name, target)
        for number, line in enumerate(lines, start=1)
        for name, target in re.findall(r"\[`(\w+)`\]\(([^()#]+\.(?:rs|py))\)", line)
    ]
    links = [
        (text.count("\n", 0, match.start()) + 1, match[1])
        for pattern in (LINK, HTML_LINK)
        for match in pattern.finditer(text)
    ]
    return Page(path, blocks, sorted(links), names, anchors)


def _anchor(heading: str) -> str:
    """As GitHub and mdBook make it."""
    text = heading.lstrip("#").strip().lower()
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _unused(anchor: str, taken: set[str]) -> str:
    number = 0
    name = anchor
    while name in taken:
        number += 1
        name = f"{anchor}-{number}"
    return name


def main(folder: Path, names: list[str]) -> None:
    for name in names:
        for block in read(ROOT / name).blocks:
            if block.file:
                file = folder / block.file
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

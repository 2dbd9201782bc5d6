"""Reads the documents: their fenced blocks with the markers above them, links, headings and code spans.

A block under ``<!-- run: … -->`` is executed, one under ``<!-- file: path -->`` is written to that path before.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

_MARKER = re.compile(r"<!-- (run|file)(?:: (.+?))? -->")
_FENCE = re.compile(
    r"(?:<!-- (?P<kind>run|file)(?:: (?P<value>.+?))? -->\n)?^```(?P<language>.*)\n(?P<text>(?s:.*?))^```$",
    re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block; ``kind`` and ``value`` are the marker's, "" where there is none."""

    page: Path
    language: str
    text: str
    kind: str
    value: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block; a quoted string may go over several lines."""
        found: list[str] = []
        for line in self.text.splitlines():
            if found and found[-1].count("'") % 2:
                found[-1] += f"\n{line}"
            elif line.strip():
                found.append(line)
        return found


def blocks(page: Path) -> list[Block]:
    """All fenced blocks, in order."""
    return [
        Block(page, found["language"], found["text"], found["kind"] or "", found["value"] or "")
        for found in _FENCE.finditer(page.read_text())
    ]


def markers(page: Path) -> int:
    """How many markers there are, each of which should belong to a block."""
    return len(_MARKER.findall(_without_spans(page.read_text())))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """The inline code, in order."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def links(page: Path) -> list[str]:
    """The targets of the links to other files or headings of ours."""
    found: list[str] = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in found if not target.startswith("http")]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings: list[str] = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: Path, header: str) -> list[list[str]]:
    """The rows of the table whose first line starts with ``header``, cells without their backticks."""
    lines = iter(page.read_text().splitlines())
    for line in lines:
        if line.startswith(header):
            break
    next(lines)
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def _without_spans(text: str) -> str:
    return re.sub(r"`[^`\n]+`", "", text)

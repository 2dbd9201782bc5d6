"""What a run of the benchmark says: chapters with their tables and targets, on the terminal and in the document.

Invariant: only what stands between the markers of the document is written over.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.arithmetic import Spread
    from tests.bench.result import Result

DOCUMENT = Path("docs") / "benchmarks.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A number to reach; it is met if the median over the rounds is on the right side of it.

    Attributes:
        unit: Written behind the numbers.
    """

    what: str
    found: Spread
    bound: float
    at_least: bool = True
    unit: str = " ×"  # noqa: RUF001

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.found.median >= self.bound if self.at_least else self.found.median <= self.bound

    @property
    def row(self) -> list[str]:
        """As a row of a table."""
        spread = [f"{value:,.2f}" for value in (self.found.low, self.found.median, self.found.high)]
        sign = "≥" if self.at_least else "≤"
        return [self.what, f"{sign} {self.bound:.3g}{self.unit}", *spread, "yes" if self.met else "**no**"]


TARGETS = ("what", "target", "min", "median", "max", "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """What a scenario found."""

    title: str
    text: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    targets: Sequence[Target] = ()
    failed: bool = False

    def lines(self) -> list[str]:
        """As Markdown."""
        found = [f"### {self.title}", "", self.text, ""]
        if self.rows:
            found += [*table(self.head, self.rows), ""]
        if self.targets:
            found += [*table(TARGETS, [target.row for target in self.targets]), ""]
        return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


RATES = ("system", "records/s", "µs of CPU per record", "handled once", "order per key")


def rates(results: dict[str, list[Result]]) -> list[list[str]]:
    """A row per system: the median of its rounds, and whatever went wrong in any of them."""
    return [[label, *_rate(found)] for label, found in results.items()]


def _rate(found: Sequence[Result]) -> list[str]:
    middle = sorted(found, key=lambda result: result.rate)[len(found) // 2]
    off = max((abs(result.count - result.distinct) for result in found), default=0)
    disordered = max(result.disordered for result in found)
    return [
        f"{middle.rate:,.0f}",
        f"{middle.cpu * 1e6:.1f}",
        "yes" if off == 0 else f"**no**: {off:,}",
        "kept" if disordered == 0 else f"**broken**: {disordered:,}",
    ]


def document(chapters: Sequence[Chapter], command: str) -> str:
    """All targets, then the chapters, under the machine, the date and the command."""
    when = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [f"`{command}` on {when}, {machine()}.", ""]
    if len(chapters) > 1:
        rows = [target.row for chapter in chapters for target in chapter.targets]
        lines += ["### All targets", "", *table(TARGETS, rows), ""]
    for chapter in chapters:
        lines += chapter.lines()
    return "\n".join(lines)


def machine() -> str:
    """This machine, as far as it matters."""
    cpu = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    named = names[0] if names else platform.machine()
    return f"{cores} cores of {named}, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def write(name: str, chapters: Sequence[Chapter], command: str, path: Path = DOCUMENT) -> None:
    """Put the chapters between the markers of that name.

    Raises:
        ValueError: The document has no such markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} has no {begin} followed by {end}")
    path.write_text(f"{before}{begin}\n\n{document(chapters, command)}\n{end}{after}")

"""The table of a run, on the screen and in ``docs/reliability.md`` between its two markers.

Invariant: nothing outside the markers is touched; rows of scenarios that were not played stay, if they are of a machine
like this one.
"""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING

import psutil

from tests.chaos.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.chaos.scenario import Outcome

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
_HEAD = (
    "scenario",
    "date",
    "took",
    "what was done",
    "records",
    "lost",
    "inversions",
    "duplicates (oldest)",
    "of once jobs",
    "longest stand-still",
    "seen",
    "verdict",
)


def machine() -> str:
    """What the figures were taken on, and how."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} CPUs, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}; "
        "`make chaos ONLY=<scenario>`."
    )


def row(name: str, outcome: Outcome, seconds: float) -> str:
    """Of one scenario that was played now."""
    proof = outcome.proof
    cells = (
        name,
        time.strftime("%Y-%m-%d", time.gmtime()),
        f"{seconds:.0f} s",
        outcome.done,
        f"{proof.acknowledged:,}",
        str(len(proof.lost)),
        str(proof.inversions),
        f"{proof.duplicates} ({1000 * proof.oldest:.0f} ms)" if proof.duplicates else "0",
        str(proof.once_duplicates),
        f"{proof.stand_still:.1f} s",
        "; ".join(outcome.notes),
        "; ".join(outcome.findings) or "held",
    )
    return _line(cells)


def table(rows: Mapping[str, str], order: Sequence[str]) -> str:
    """In Markdown."""
    played = [rows[name] for name in order if name in rows]
    return "\n".join([machine(), "", _line(_HEAD), _line(["---"] * len(_HEAD)), *played])


def merge(rows: Mapping[str, str], order: Sequence[str], page: Path = PAGE) -> None:
    """Put the rows into the page's table."""
    before, _, rest = page.read_text().partition(BEGIN)
    found, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(_kept(found) | rows, order)}\n\n{END}{after}")


def _kept(block: str) -> dict[str, str]:
    if machine() not in block:
        return {}
    return {line.split("|")[1].strip(): line for line in block.splitlines() if line.startswith("|")}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""The table of a run, on the screen and in ``docs/reliability.md`` between its two markers.

Invariant: nothing outside the markers is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.chaos.scenario import Outcome

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"
_HEAD = (
    "scenario",
    "what was done",
    "records",
    "lost",
    "inversions",
    "duplicates (oldest)",
    "of once jobs",
    "longest stand-still",
    "verdict",
)


def table(outcomes: Sequence[tuple[str, Outcome]]) -> str:
    """One row per scenario, in Markdown."""
    lines = [_HEAD, tuple("---" for _ in _HEAD), *(_row(name, outcome) for name, outcome in outcomes)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(text: str, page: Path = PAGE) -> None:
    """Put the text between the markers."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _row(name: str, outcome: Outcome) -> tuple[str, ...]:
    proof = outcome.proof
    repeated = f"{proof.duplicates} ({1000 * proof.oldest:.0f} ms)" if proof.duplicates else "0"
    return (
        name,
        outcome.done,
        f"{proof.acknowledged:,}",
        str(len(proof.lost)),
        str(proof.inversions),
        repeated,
        str(proof.once_duplicates),
        f"{proof.stand_still:.1f} s",
        "; ".join(outcome.findings) or "held",
    )

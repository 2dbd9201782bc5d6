"""``make chaos``: plays every scenario (or those named) in its long form, prints the table and keeps it in the docs.

Invariant: the exit code is 0 only where every promise held.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos import report
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import Stage

if TYPE_CHECKING:
    from tests.chaos.scenario import Outcome, Scenario

KNOWN = {scenario.name: scenario for scenario in SCENARIOS}


def main() -> int:
    """Play, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="?", default=",".join(KNOWN), help="scenarios, with commas between them; all")
    parser.add_argument("--short", action="store_true", help="with the numbers of the short form; nothing is kept")
    chosen = parser.parse_args()
    names = chosen.names.split(",")
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        parser.error(f"no scenarios: {', '.join(unknown)}; there are {', '.join(KNOWN)}")
    rows, held = asyncio.run(_play([KNOWN[name] for name in names], short=chosen.short))
    print(f"\n{report.table(rows, list(KNOWN))}")
    return int(not held)


async def _play(scenarios: list[Scenario], *, short: bool) -> tuple[dict[str, str], bool]:
    """Their rows, each kept as soon as there is one, and whether all promises held."""
    rows, held = {}, True
    for scenario in scenarios:
        started = time.monotonic()
        print(f"{scenario.name}: ", end="", flush=True)
        try:
            outcome = await _alone(scenario, short=short)
        except Exception:  # noqa: BLE001 - the others are played all the same
            traceback.print_exc()
            held = False
            continue
        rows[scenario.name] = report.row(scenario.name, outcome, time.monotonic() - started)
        held = held and not outcome.findings
        print("; ".join([outcome.done, *outcome.notes, *(outcome.findings or ["held"])]), flush=True)
        if not short:
            report.merge(rows, list(KNOWN))
    return rows, held


async def _alone(scenario: Scenario, *, short: bool) -> Outcome:
    """On a stage of its own; its folder is left for who wants to read the logs."""
    folder = Path(tempfile.mkdtemp(prefix=f"keylane-chaos-{scenario.name}-"))
    print(f"(logs in {folder}) ", end="", flush=True)
    async with Stage(folder, scenario.brokers) as stage:
        return await scenario.play(stage, scenario.short if short else scenario.long)


if __name__ == "__main__":
    sys.exit(main())

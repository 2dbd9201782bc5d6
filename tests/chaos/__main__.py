"""``make chaos``: plays every scenario (or those named) in its long form, and prints and keeps the table.

Invariant: the exit code is 0 only where every promise held.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos import report
from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import Stage

if TYPE_CHECKING:
    from tests.chaos.scenario import Outcome, Scenario


def main() -> int:
    """Play, print, write."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *known], help="scenarios; all where none is named")
    parser.add_argument("--short", action="store_true", help="with the numbers of the short form")
    chosen = parser.parse_args()
    outcomes = asyncio.run(_play([known[name] for name in chosen.names or known], short=chosen.short))
    text = f"{_made()}\n\n{report.table(outcomes)}"
    print(f"\n{text}")
    if not chosen.names and not chosen.short:
        report.write(text)
    return int(any(outcome.findings for _, outcome in outcomes))


async def _play(scenarios: list[Scenario], *, short: bool) -> list[tuple[str, Outcome]]:
    outcomes = []
    for scenario in scenarios:
        started = time.monotonic()
        print(f"{scenario.name}: ", end="", flush=True)
        outcome = await _alone(scenario, short=short)
        seconds = time.monotonic() - started
        print(f"{outcome.done}, {seconds:.0f} s: {'; '.join(outcome.findings) or 'held'}", flush=True)
        for note in outcome.notes:
            print(f"    {note}", flush=True)
        outcomes.append((scenario.name, outcome))
    return outcomes


async def _alone(scenario: Scenario, *, short: bool) -> Outcome:
    """On a stage of its own; its folder is kept where something broke."""
    folder = Path(tempfile.mkdtemp(prefix=f"keylane-chaos-{scenario.name}-"))
    async with Stage(folder, scenario.brokers) as stage:
        outcome = await scenario.play(stage, scenario.short if short else scenario.long)
    print(f"(logs in {folder}) ", end="")
    return outcome


def _made() -> str:
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{date}, `make chaos`, {os.cpu_count()} CPUs, Python {platform.python_version()}, {platform.system()}"


if __name__ == "__main__":
    sys.exit(main())

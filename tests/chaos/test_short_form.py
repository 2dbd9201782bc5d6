"""Every scenario with small numbers, played before the first test; each test reads what came of one.

Invariant: the scenarios have servers of their own. Those that break no broker share one, side by side; no other test
runs beside them, since their workers, brokers and loads take all the processors there are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.scenario import Outcome, Scenario

    Came = dict[str, Outcome | BaseException]

pytestmark = pytest.mark.timeout(400)

AT_ONCE = 5  # scenarios: with more of them workers would wait for the processor instead of for faults
KNOWN = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> Came:
    return asyncio.run(play_all(tmp_path_factory.mktemp("chaos")))


async def play_all(folder: Path) -> Came:
    clustered = [scenario for scenario in SCENARIOS if scenario.brokers > 1]
    alone = [scenario for scenario in SCENARIOS if scenario.breaks_broker and scenario not in clustered]
    together = [scenario for scenario in SCENARIOS if not scenario.breaks_broker]
    async with Stage(folder) as stage:
        found = await play(together, stage, AT_ONCE)
        # While the one broker is away there is little to do: a cluster has the processors meanwhile.
        for more in await asyncio.gather(play(alone, stage, 1), play_on_clusters(clustered, folder)):
            found |= more
    return found


async def play_on_clusters(scenarios: list[Scenario], folder: Path) -> Came:
    found: Came = {}
    for scenario in scenarios:
        async with Stage(folder / scenario.name, scenario.brokers) as stage:
            found |= await play([scenario], stage, 1)
    return found


async def play(scenarios: list[Scenario], stage: Stage, at_once: int) -> Came:
    slots = asyncio.Semaphore(at_once)

    async def in_turn(scenario: Scenario) -> Outcome:
        async with slots:
            return await scenario.play(stage, scenario.short)

    names = [scenario.name for scenario in scenarios]
    return dict(zip(names, await asyncio.gather(*map(in_turn, scenarios), return_exceptions=True), strict=True))


@pytest.mark.parametrize("name", KNOWN)
def test_no_promise_is_broken_by(name: str, came: Came) -> None:
    outcome = came[name]
    if isinstance(outcome, BaseException):
        raise outcome
    print(f"{outcome.done}", outcome.proof, *outcome.notes, sep="\n")
    assert not outcome.findings

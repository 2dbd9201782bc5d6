"""Scenarios with small numbers, all on one stage; what does not meet runs side by side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.scenario import Scenario

pytestmark = pytest.mark.timeout(300)

KNOWN = {scenario.name: scenario for scenario in SCENARIOS}
TOGETHER = (
    ("kills",),
    ("broker-kills",),
    ("broker-frozen",),
    ("zombies",),
    ("offsets-deleted", "log-head-expired"),
    ("redis-loss",),
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("chaos"))
    with asyncio.Runner() as runner:
        runner.run(stage.__aenter__())
        yield stage
        runner.run(stage.__aexit__())


async def holds(scenario: Scenario, stage: Stage) -> None:
    outcome = await scenario.play(stage, scenario.short)
    print(f"\n{scenario.name}: {outcome.done}", outcome.proof, *outcome.notes, sep="\n")
    assert not outcome.findings, scenario.name


@pytest.mark.parametrize("names", TOGETHER, ids="+".join)
async def test_no_promise_is_broken_by(names: tuple[str, ...], stage: Stage) -> None:
    await asyncio.gather(*(holds(KNOWN[name], stage) for name in names))

"""Every scenario with small numbers, on one stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.scenarios import SCENARIOS
from tests.chaos.stage import Stage

if TYPE_CHECKING:
    from tests.chaos.scenario import Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_no_fault_breaks_a_promise(scenario: Scenario, tmp_path) -> None:
    async with Stage(tmp_path, scenario.brokers) as stage:
        outcome = await scenario.play(stage, scenario.short)
    print(f"\n{outcome.done}: {outcome.proof}", *outcome.notes, sep="\n")
    assert not outcome.findings

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.gateway.__main__ import SCENARIOS, prepared

if TYPE_CHECKING:
    from streams.settings import Settings
    from tests.bench.gateway.scenarios import Setting


@pytest.fixture(scope="module")
def setting(settings: Settings) -> Setting:
    return prepared(settings, rounds=1, seconds=0.5)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_comes_to_figures(setting: Setting, name: str) -> None:
    chapter = SCENARIOS[name](setting)
    assert chapter.rows
    assert all(len(row) == len(chapter.head) for row in chapter.rows)
    assert all(target.found.median > 0 for target in chapter.targets)

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench.bench import Bench, System
from tests.bench.fill import Filling
from tests.bench.launch import RunError
from tests.bench.load import Load
from tests.bench.scenarios.throughput import KEYLANE, LIMIT

if TYPE_CHECKING:
    from streams.settings import Settings

COUNT = 2_000


@pytest.fixture
def bench(settings: Settings) -> Bench:
    # The peers that this test runs are in our own environment too.
    return Bench(settings, Path(sys.executable), rounds=1, count=COUNT)


def test_an_alternation_runs_each_system_on_all_records_in_order(bench: Bench) -> None:
    hand = System(label="by hand", module="handwritten")
    found = bench.alternate([LIMIT, KEYLANE, hand], Filling(count=COUNT, keys=50, partitions=2))
    bench.forget()
    assert list(found) == [LIMIT.label, KEYLANE.label, "by hand"]
    for (result,) in found.values():
        assert (result.count, result.distinct, result.disordered) == (COUNT, COUNT, 0)
        assert result.rate > 0
        assert result.cpu > 0


def test_records_of_a_paced_load_are_timed_without_the_key_that_is_set_aside(bench: Bench) -> None:
    load = Load(rate=200, seconds=3, warm=0.5, hot=0.5, keys=20, partitions=2)
    result = bench.paced(KEYLANE, load, aside=(0,))
    assert result.count == load.counted((0,)) < load.filling.count
    assert 0 < result.p50 <= result.p99


def test_a_system_that_dies_is_told_of_with_the_end_of_its_log(bench: Bench) -> None:
    broken = System(label="broken", module="broken")
    with pytest.raises(RunError, match="No module named"):
        bench.alternate([broken], Filling(count=10, keys=5, partitions=1))
    bench.forget()

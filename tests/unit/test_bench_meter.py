from __future__ import annotations

import pytest

from tests.bench.meter import Meter


def metered(count: int, records: list[tuple[str, int]], **options: object) -> tuple[Meter, list[int]]:
    done: list[int] = []
    meter = Meter(count, lambda: done.append(meter.count), **options)
    for entity, sequence in records:
        meter.saw(entity, sequence)
    return meter, done


@pytest.mark.parametrize("count", [1, 7, 200, 201, 1_000])
def test_the_work_is_done_with_its_last_record(count: int) -> None:
    _, done = metered(count, [("a", number) for number in range(count)])
    assert done == [count]


def test_order_within_each_key_is_all_that_counts() -> None:
    meter, _ = metered(4, [("a", 0), ("b", 0), ("b", 1), ("a", 1)])
    assert meter.report()["disordered"] == 0


@pytest.mark.parametrize("sequences", [[0, 2], [0, 0], [0, 1, 0]])
def test_a_record_that_is_left_out_or_comes_again_is_out_of_order(sequences: list[int]) -> None:
    meter, _ = metered(9, [("a", sequence) for sequence in sequences])
    assert meter.report()["disordered"] == 1


def test_what_is_set_aside_is_neither_counted_nor_timed() -> None:
    meter, _ = metered(9, [("hot", 0), ("a", 0)], aside=["hot"])
    meter.began("hot", 0)
    assert meter.report()["count"] == 1
    assert meter.report()["latencies"] == []


def test_the_curve_ascends_to_the_count() -> None:
    meter, _ = metered(1_000, [("a", number) for number in range(1_000)])
    curve = meter.report()["curve"]
    assert curve == sorted(curve)
    assert curve[-1][2] == 1_000

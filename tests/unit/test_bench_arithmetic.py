from __future__ import annotations

import pytest

from tests.bench.arithmetic import Spread, quantile, ratios, slope, steady
from tests.bench.result import Result


def curve(rate: float, begin: float, end: float, cpu: float = 0.0) -> list[tuple[float, float, int]]:
    points = range(int((end - begin) * 10) + 1)
    return [(begin + n / 10, n * rate / 10 * cpu, int(n * rate / 10)) for n in points]


def test_a_ratio_is_of_one_round() -> None:
    assert ratios([10, 40, 90], [10, 20, 30]) == Spread(1, 2, 3)


def test_rounds_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_quantile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert quantile(list(range(1, 101)), share) == expected


def test_the_slope_is_the_growth_per_step() -> None:
    assert slope([(0, 5), (1, 7.5), (2, 10), (4, 15)]) == pytest.approx(2.5)


def test_a_steady_run_has_the_rate_it_kept() -> None:
    rate, cpu = steady([curve(1_000, 5, 15, cpu=0.0005)])
    assert rate == pytest.approx(1_000)
    assert cpu == pytest.approx(0.0005)


def test_the_start_and_the_stragglers_do_not_count() -> None:
    slow_start = [(0.0, 0.0, 1), *curve(1_000, 100, 110), (500.0, 0.0, 10_001)]
    assert steady([slow_start])[0] == pytest.approx(1_000)


def test_processes_count_while_all_of_them_work() -> None:
    assert steady([curve(1_000, 0, 10), curve(500, 3, 13)])[0] == pytest.approx(1_500, rel=0.01)


def test_processes_that_worked_one_after_the_other_get_the_rate_of_the_whole() -> None:
    rate, _ = steady([curve(1_000, 0, 10), curve(1_000, 20, 30)])
    assert rate == pytest.approx(18_500 / 28.5, rel=0.01)


def test_a_process_without_work_is_left_out() -> None:
    assert steady([curve(1_000, 0, 10), [(3.0, 0.1, 0)]])[0] == pytest.approx(1_000)


def test_one_record_has_no_rate() -> None:
    assert steady([[(1.0, 0.1, 1), (1.5, 0.2, 1)]]) == (0.0, 0.0)


def report(keys: dict[str, tuple[int, int]], count: int) -> dict[str, object]:
    found = {"keys": keys, "curve": curve(10, 0, 10), "latencies": [], "begin": -1.0}
    return {"count": count, "disordered": 0, **found}


def test_a_key_that_moved_to_another_process_is_whole() -> None:
    result = Result.of([report({"a": (0, 4)}, 5), report({"a": (5, 9)}, 5)])
    assert result.whole
    assert result.disordered == 0


def test_a_record_done_by_two_processes_shows() -> None:
    assert not Result.of([report({"a": (0, 5)}, 6), report({"a": (5, 9)}, 5)]).whole


def test_a_key_whose_first_records_nobody_did_shows() -> None:
    result = Result.of([report({"a": (3, 9)}, 7)])
    assert not result.whole
    assert result.disordered == 1


def test_a_run_without_a_record_is_no_result() -> None:
    with pytest.raises(ValueError, match="no record"):
        Result.of([report({}, 0)])


def test_the_start_is_the_time_to_the_first_record() -> None:
    assert Result.of([report({"a": (0, 9)}, 10)]).first == 1.0

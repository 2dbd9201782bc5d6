"""Where a failed record goes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.headers import SOURCE, Level, dlt_level
from streams.core.levels import after, of_dead_letter

TIERS = (2.0, 30.0, 300.0)


@pytest.mark.parametrize(
    ("level", "at_least", "expected"),
    [
        (SOURCE, 0, Level(0, 0, 1)),
        (SOURCE, 10, Level(0, 0, 2)),
        (SOURCE, 1_000, Level(0, 0, 3)),
        (Level(0, 0, 0), 0, Level(0, 0, 1)),
        (Level(0, 0, 2), 0, Level(0, 0, 3)),
        (Level(0, 0, 2), 10, Level(0, 0, 3)),
        (Level(0, 0, 3), 0, Level(0, 1, 1)),
        (Level(0, 0, 3), 100, Level(0, 1, 3)),
        (Level(2, 1, 3), 0, Level(2, 2, 1)),
        (dlt_level(0), 0, Level(1, 0, 1)),
    ],
)
def test_the_next_level_is_the_lowest_above_that_waits_long_enough(level, at_least, expected) -> None:
    assert after(level, TIERS, at_least) == expected


LEVELS = st.one_of(
    st.just(SOURCE),
    st.builds(Level, st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)),
    st.builds(dlt_level, st.integers(0, 5)),
)


@given(LEVELS, st.lists(st.floats(0.1, 1000), min_size=3, max_size=6), st.floats(0, 2000))
def test_a_retry_always_goes_up(level, tiers, at_least) -> None:
    assert after(level, tuple(sorted(tiers)), at_least) > level


@given(LEVELS)
def test_a_dead_letter_is_above_where_its_record_failed(level) -> None:
    assert of_dead_letter(level) > level

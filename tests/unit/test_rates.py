"""The arithmetic of limits: never more than the burst at once, never more than the rate in the long run."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rates import Bucket, LocalRates, Rate


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def rates() -> st.SearchStrategy[Rate]:
    return st.builds(Rate, st.integers(1, 50), st.floats(0.1, 100), st.integers(1, 50))


@given(rates(), st.lists(st.floats(0, 30), max_size=200))
def test_no_window_lets_in_more_than_the_burst_and_what_has_become_free_in_it(rate: Rate, pauses: list[float]) -> None:
    clock = Clock()
    local, taken = LocalRates(clock), []

    async def play() -> None:
        for pause in pauses:
            clock.now += pause
            if (await local.take((Bucket("k", rate),))).taken:
                taken.append(clock.now)

    asyncio.run(play())
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= rate.burst + (taken[last] - begin) / rate.interval + 1e-3


@given(rates(), st.integers(0, 120))
def test_who_waits_as_long_as_he_is_told_gets_in(rate: Rate, before: int) -> None:
    clock = Clock()
    local, bucket = LocalRates(clock), (Bucket("k", rate),)

    async def play() -> None:
        for _ in range(before):
            await local.take(bucket)
        told = await local.take(bucket)
        assert told.taken == (before < rate.burst)
        if not told.taken:
            clock.now += told.left[0].retry_after * 0.98 - 1e-6
            assert not (await local.take(bucket)).taken
            clock.now += told.left[0].retry_after * 0.02 + 1e-5
            assert (await local.take(bucket)).taken

    asyncio.run(play())


async def test_a_request_takes_a_place_in_every_bucket_or_in_none() -> None:
    local = LocalRates(Clock())
    wide, narrow = Bucket("wide", Rate(10, 1, 10)), Bucket("narrow", Rate(1, 1, 1))
    assert (await local.take((wide, narrow))).taken
    refused = await local.take((wide, narrow))
    assert not refused.taken
    assert [left.remaining for left in refused.left] == [9, 0]
    assert (await local.take((wide,))).left[0].remaining == 8


async def test_buckets_that_are_full_again_are_forgotten() -> None:
    clock = Clock()
    local = LocalRates(clock)
    for number in range(20_000):
        clock.now += 1
        await local.take((Bucket(str(number), Rate(1, 1, 1)),))
    assert len(local._full_at) <= 10_001


@pytest.mark.parametrize(("count", "seconds", "burst"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_rate_that_lets_nothing_in_is_refused(count: int, seconds: float, burst: int) -> None:
    with pytest.raises(ValueError, match="a rate needs positive numbers"):
        Rate(count, seconds, burst)

"""Rates counted in a real Redis by several gateways at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from streams.adapters.rates import RedisRates
from streams.adapters.redis import RedisAwayError, connect, now
from streams.dev import ports
from streams.rates import Bucket, Rate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

HOURLY = Rate(100, 3600, 100)


@pytest.fixture
async def gateways(redis_url: str) -> AsyncIterator[list[RedisRates]]:
    clients = [connect(redis_url) for _ in range(4)]
    yield [RedisRates(client) for client in clients]
    for client in clients:
        await client.aclose()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def test_four_gateways_let_in_together_what_one_would(
    gateways: list[RedisRates], unique: Callable[[str], str]
) -> None:
    bucket = (Bucket(unique("bucket"), HOURLY),)
    answers = await asyncio.gather(*(gateway.take(bucket) for _ in range(250) for gateway in gateways))
    assert sum(answer.taken for answer in answers) == 100
    refused = [answer.left[0] for answer in answers if not answer.taken]
    assert all(left.remaining == 0 and 30 < left.retry_after <= 36 for left in refused)


async def test_in_the_long_run_the_rate_is_right_to_a_hundredth(
    gateways: list[RedisRates], redis: Redis, unique: Callable[[str], str]
) -> None:
    rate, bucket = Rate(400, 1, 400), unique("bucket")  # a machine may be busy for a second, and nothing is missed

    async def take() -> int:
        answers = await asyncio.gather(*(gateway.take((Bucket(bucket, rate),)) for gateway in gateways * 10))
        return sum(answer.taken for answer in answers)

    began = await now(redis)
    taken, first = await take(), await now(redis)
    last = ended = first
    while ended < began + 2:
        last = ended
        taken += await take()
        ended = await now(redis)
    # The first place was taken between began and first, the last one between last and ended.
    assert rate.burst + 0.99 * rate.count * (last - first) <= taken
    assert taken <= rate.burst + 1.01 * rate.count * (ended - began)


async def test_requests_that_wait_together_are_answered_in_their_order(
    gateways: list[RedisRates], unique: Callable[[str], str]
) -> None:
    bucket = (Bucket(unique("bucket"), Rate(3, 3600, 3)),)
    answers = await asyncio.gather(*(gateways[0].take(bucket) for _ in range(5)))
    assert [answer.taken for answer in answers] == [True, True, True, False, False]


async def test_a_place_is_taken_in_every_bucket_or_in_none(
    gateways: list[RedisRates], unique: Callable[[str], str]
) -> None:
    wide, narrow = Bucket(unique("wide"), HOURLY), Bucket(unique("narrow"), Rate(1, 3600, 1))
    assert (await gateways[0].take((wide, narrow))).taken
    refused = await gateways[1].take((wide, narrow))
    assert (refused.taken, [left.remaining for left in refused.left]) == (False, [99, 0])


async def test_buckets_that_are_full_again_leave_nothing_in_redis(
    gateways: list[RedisRates], redis: Redis, unique: Callable[[str], str]
) -> None:
    bucket = Bucket(unique("bucket"), Rate(1, 3600, 1))
    await gateways[0].take((bucket,))
    assert 3_590_000 < await redis.pttl(bucket.key) <= 3_600_001


async def test_without_redis_whoever_waits_is_told_so_and_the_next_is_asked_anew() -> None:
    client = connect(f"redis://127.0.0.1:{ports.any_free()}")
    rates = RedisRates(client, patience=0.1)
    for _ in range(2):
        with pytest.raises(RedisAwayError):
            await rates.take((Bucket("any", HOURLY),))
    await client.aclose()

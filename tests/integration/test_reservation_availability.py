from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from consumers.availability_cache.cache import KEPT_FOR, Availability, Rank, Taken
from consumers.availability_cache.handler import handle
from schemas.reservation_cancelled.model import Cancelled
from schemas.reservation_confirmed.model import Confirmed
from schemas.reservation_held.model import Held
from schemas.reservation_hold_expired.model import HoldExpired
from streams.adapters.redis import connect
from streams.dev import ports
from streams.job import Done, TransientError
from tests.consumer_context import context, services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from schemas.reservation_fields import ReservationFields

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


class Resource:
    """One resource of one tenant, and what happens to it."""

    def __init__(self, redis: Redis, tenant: str, name: str = "court-1") -> None:
        self.services = services(redis=redis)
        self.tenant = tenant
        self.name = name

    def event(self, kind: type[ReservationFields], reservation: str, quantity: int, **more: Any) -> ReservationFields:
        expiry = {"expires_at": NOW} if kind in (Held, HoldExpired) else {}
        times = {"starts_at": NOW, "ends_at": NOW + timedelta(days=1), **more}
        return kind(
            reservation_id=reservation,
            resource_id=self.name,
            customer_email="saraa@example.com",
            customer_name="Сараа",
            quantity=quantity,
            **times,
            **expiry,
        )

    async def happens(self, kind: type[ReservationFields], reservation: str, quantity: int, **more: Any) -> bool:
        event = self.event(kind, reservation, quantity, **more)
        outcome = await handle(event, context(self.services, record_id="any", tenant=self.tenant))
        assert isinstance(outcome, Done)
        return bool(outcome.result["changed"])

    async def taken(self) -> Taken:
        return await Availability(self.services.redis).taken(self.tenant, self.name)


@pytest.fixture
def court(redis: Redis, unique: Callable[[str], str]) -> Resource:
    return Resource(redis, unique("tenant"))


async def test_units_go_from_free_to_held_to_confirmed_and_back(court: Resource) -> None:
    assert await court.taken() == Taken(held=0, confirmed=0)
    await court.happens(Held, "r-1", 2)
    await court.happens(Held, "r-2", 3)
    assert await court.taken() == Taken(held=5, confirmed=0)
    await court.happens(Confirmed, "r-1", 2)
    assert await court.taken() == Taken(held=3, confirmed=2)
    await court.happens(HoldExpired, "r-2", 3)
    assert await court.taken() == Taken(held=0, confirmed=2)
    await court.happens(Cancelled, "r-1", 2)
    assert await court.taken() == Taken(held=0, confirmed=0)


async def test_an_event_that_comes_again_changes_nothing(court: Resource) -> None:
    assert await court.happens(Held, "r-1", 2) is True
    assert await court.happens(Held, "r-1", 2) is False
    assert await court.happens(Confirmed, "r-1", 2) is True
    assert await court.happens(Held, "r-1", 2) is False
    assert await court.happens(Confirmed, "r-1", 2) is False
    assert await court.taken() == Taken(held=0, confirmed=2)


async def test_a_confirmation_that_crosses_an_expiry_wins_whichever_comes_first(court: Resource) -> None:
    for reservation, order in {"r-1": (HoldExpired, Confirmed), "r-2": (Confirmed, HoldExpired)}.items():
        await court.happens(Held, reservation, 1)
        for kind in order:
            await court.happens(kind, reservation, 1)
    assert await court.taken() == Taken(held=0, confirmed=2)


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_and_any_repeats_end_in_the_same_counts(court: Resource, seed: int) -> None:
    lives = {
        "r-1": (3, [Held]),
        "r-2": (4, [Held, Confirmed]),
        "r-3": (5, [Held, Confirmed, Cancelled]),
        "r-4": (6, [Held, HoldExpired]),
        "r-5": (7, [Confirmed]),
    }
    events = [(kind, name, quantity) for name, (quantity, kinds) in lives.items() for kind in kinds] * 3
    random.Random(seed).shuffle(events)
    await asyncio.gather(*(court.happens(*event) for event in events))
    assert await court.taken() == Taken(held=3, confirmed=11)


async def test_resources_and_tenants_are_counted_apart(redis: Redis, unique: Callable[[str], str]) -> None:
    tenant = unique("tenant")
    courts = [Resource(redis, tenant, "a"), Resource(redis, tenant, "b"), Resource(redis, unique("tenant"), "a")]
    for number, court in enumerate(courts, start=1):
        await court.happens(Held, "r-1", number)
    assert [(await court.taken()).held for court in courts] == [1, 2, 3]


async def test_what_ended_long_ago_leaves_no_trace_and_cannot_come_back(court: Resource, redis: Redis) -> None:
    await court.happens(Confirmed, "gone", 5)
    ended = NOW - timedelta(seconds=KEPT_FOR + 60)
    await redis.zadd(f"keylane:availability-ends:{court.tenant}/court-1", {"gone": ended.timestamp() * 1000})
    await court.happens(Held, "now", 1)
    assert await court.taken() == Taken(held=1, confirmed=0)
    assert await court.happens(Confirmed, "gone", 5, starts_at=ended, ends_at=ended) is False
    assert await court.taken() == Taken(held=1, confirmed=0)
    for key in await redis.keys(f"keylane:availability*:{court.tenant}/*"):
        kind = await redis.type(key)
        members = await (redis.hkeys(key) if kind == "hash" else redis.zrange(key, 0, -1))
        assert "gone" not in members


async def test_lost_counters_are_rebuilt_from_the_events(court: Resource, redis: Redis) -> None:
    history = [(Held, "r-1", 1), (Held, "r-2", 2), (Confirmed, "r-2", 2)]
    for event in history:
        await court.happens(*event)
    before = await court.taken()
    await redis.delete(*await redis.keys(f"keylane:availability*:{court.tenant}/*"))
    assert await court.taken() == Taken(held=0, confirmed=0)
    for event in history:
        await court.happens(*event)
    assert await court.taken() == before == Taken(held=1, confirmed=2)


async def test_without_redis_the_event_waits() -> None:
    away = connect(f"redis://127.0.0.1:{ports.any_free()}", timeout=0.2)
    with pytest.raises(TransientError):
        await Resource(away, "steppe").happens(Held, "r-1", 1)
    await away.aclose()


def test_every_event_has_its_rank() -> None:
    assert Rank.HELD < Rank.EXPIRED < Rank.CONFIRMED < Rank.CANCELLED

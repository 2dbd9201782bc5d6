from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from consumers.reservation_notifications import SUBSCRIPTION
from consumers.reservation_notifications.handler import handle
from schemas.reservation_cancelled.model import Cancelled
from schemas.reservation_confirmed.model import Confirmed
from schemas.reservation_hold_expired.model import HoldExpired
from streams.adapters.redis import connect
from streams.job import Done
from tests.consumer_context import Outbox, context, only, services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from schemas.reservation_fields import ReservationFields

NOW = datetime(2026, 11, 24, tzinfo=UTC)
FIELDS: dict[str, Any] = {
    "reservation_id": "r-1",
    "resource_id": "court-1",
    "customer_email": "saraa@example.com",
    "customer_name": "Сараа",
    "starts_at": NOW,
    "ends_at": NOW + timedelta(hours=1),
    "quantity": 1,
}
EVENTS = [Confirmed(**FIELDS), Cancelled(**FIELDS), HoldExpired(**FIELDS, expires_at=NOW)]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
async def test_a_customer_gets_one_mail_per_event_however_often_it_comes(
    redis: Redis, unique: Callable[[str], str], event: ReservationFields
) -> None:
    outbox = Outbox()
    ctx = context(services(redis=redis, mail=outbox), record_id=unique("event"))
    assert isinstance(await handle(event, ctx), Done)
    assert await handle(event, ctx) == Done({"mail": "was sent before"})
    assert only(outbox.sent).to == "saraa@example.com"


async def test_a_second_event_of_a_reservation_is_a_second_mail(redis: Redis, unique: Callable[[str], str]) -> None:
    outbox = Outbox()
    for event in EVENTS[:2]:
        await handle(event, context(services(redis=redis, mail=outbox), record_id=unique("event")))
    assert len({email.message_id for email in outbox.sent}) == 2


def test_every_event_subscribed_to_has_a_letter_and_held_has_none() -> None:
    names = {contract.name for contract in SUBSCRIPTION.contracts}
    assert names == {"reservation.confirmed", "reservation.cancelled", "reservation.hold_expired"}

"""Emits ``reservation.hold_expired`` for the holds that ran out, each of them once.

Nothing expires before the group has read all events that were there when the hold ran out: a confirmation that waits
unread after an outage counts. Before an expiry is published, its row says so, together with the ends of the topic at
that time. After a crash in between, the expiry is looked for in the topic from there on, and published only if it is
not found. Invariant: the id of an expiry is a function of tenant and reservation, so even a twin could be told.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import structlog

from consumers.holds.handler import GROUP, TIERS
from consumers.holds.lag import caught_up
from consumers.holds.store import Holds
from schemas.reservation_hold_expired.model import CONTRACT, HoldExpired
from streams.event import from_headers
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from consumers.holds.store import Hold
    from streams.ports import LogReader, Services

_LOG = structlog.get_logger(__name__)
_BATCH = 500


def event_id(tenant: str, reservation_id: str) -> str:
    """The id of the one expiry this reservation can have."""
    return str(uuid5(NAMESPACE_URL, f"keylane:{CONTRACT.name}:{tenant}/{reservation_id}"))


async def sweep(services: Services, topic: str = CONTRACT.topic) -> float | None:
    """Publish what ran out; does nothing while another process sweeps, or while the group is behind.

    Returns:
        How many seconds ago the oldest hold that was found had run out; None where another process sweeps.

    Raises:
        TransientError: PostgreSQL or Kafka is away; the next sweep goes on where this one stopped.
    """
    holds = Holds(services.sql)
    async with holds.alone() as alone:
        if not alone:
            return None
        await holds.forget()
        due = await holds.overdue()
        if due is None:
            return 0.0
        if await caught_up(services, topic, GROUP, len(TIERS)):
            await _sweep(services, holds, due.now, topic)
        else:
            _LOG.warning("holds not swept: the group has not read all events", group=GROUP, topic=topic)
        return due.lag


async def _sweep(services: Services, holds: Holds, until: datetime, topic: str) -> None:
    await _resume(services, holds, topic)
    while due := await holds.begin_expiring(until, await _ends(services.log_reader, topic), _BATCH):
        await _publish(services, holds, due, topic)


async def _resume(services: Services, holds: Holds, topic: str) -> None:
    left = await holds.expiring()
    if not left:
        return
    published = await _published(services.log_reader, left, topic)
    found = [hold for hold in left if event_id(hold.tenant, hold.reservation_id) in published]
    await holds.expired(found)
    await _publish(services, holds, [hold for hold in left if hold not in found], topic)


async def _publish(services: Services, holds: Holds, due: Sequence[Hold], topic: str) -> None:
    acknowledged = await asyncio.gather(*(_emit(services, hold, topic) for hold in due), return_exceptions=True)
    await holds.expired(hold for hold, answer in zip(due, acknowledged, strict=True) if answer is None)
    for answer in acknowledged:
        if answer is not None:
            raise answer


async def _emit(services: Services, hold: Hold, topic: str) -> None:
    await services.emit(
        CONTRACT,
        HoldExpired.model_validate(hold.reservation),
        tenant=hold.tenant,
        entity=hold.entity,
        event_id=event_id(hold.tenant, hold.reservation_id),
        topic=topic,
    )


async def _published(reader: LogReader, left: Sequence[Hold], topic: str) -> set[str]:
    """The ids of all records since the earliest captured ends."""
    ends = {TopicPartition(topic, partition): end for partition, end in (await _ends(reader, topic)).items()}
    first = await reader.starts([topic])
    start = {
        place: max(first.get(place, 0), min(hold.captured.get(place.partition, 0) for hold in left)) for place in ends
    }
    ids: set[str] = set()
    async for records in reader.read(start, ends):
        ids.update(from_headers(record.headers).get("id", "") for record in records)
    return ids


async def _ends(reader: LogReader, topic: str) -> dict[int, int]:
    return {place.partition: end for place, end in (await reader.ends([topic])).items()}

"""Whether a consumer group has read what is in the log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streams.core.headers import tier_topic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.ports import LogReader, Services, TopicPartition

_POLLS = 20
_INTERVAL = 0.25  # seconds
_SMALL = 1_000  # offsets that are looked through for records


async def caught_up(services: Services, topic: str, group: str, tiers: int) -> bool:
    """Whether all records of the topic as of now, and those waiting in the tiers, are finished; waits 5 s for it.

    Raises:
        TransientError: Kafka is away.
    """
    topics = [topic, *(tier_topic(topic, group, tier) for tier in range(tiers + 1))]
    ends = await services.log_reader.ends(topics)
    for _ in range(_POLLS):
        committed = await services.group_offsets.committed(group)
        behind = {place: committed.get(place, 0) for place, end in ends.items() if committed.get(place, 0) < end}
        if await _empty(services.log_reader, behind, ends):
            return True
        await asyncio.sleep(_INTERVAL)
    return False


async def _empty(reader: LogReader, start: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> bool:
    """Whether no record is left there: markers of transactions take offsets, but nobody reads or commits them."""
    if sum(ends[place] - offset for place, offset in start.items()) > _SMALL:
        return False
    found = [len(records) async for records in reader.read(start, {place: ends[place] for place in start})]
    return not any(found)

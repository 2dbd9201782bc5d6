"""Reads what the broker itself holds at the end of a run: the dead letters, and what the group has not committed.

Invariant: it joins no group and uses nothing of keylane's.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_LOOK = 0.2  # seconds


async def dead_ids(servers: str, topic: str, partitions: int) -> set[str]:
    """The ids of all dead letters, those that only follow one excepted."""
    found = set()
    async with _consumer(servers, [topic], partitions) as (consumer, ends):
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found |= {dict(record.headers)["ce_id"].decode() for record in records}
    return found


async def behind(servers: str, group: str, topics: Sequence[str], partitions: int) -> int:
    """How many records of the topics the group has not committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    async with _consumer(servers, topics, partitions) as (_, ends):
        return sum(end - max(0, committed[place].offset if place in committed else 0) for place, end in ends.items())


async def ends(servers: str, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the logs end."""
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        found: dict[TopicPartition, int] = await consumer.end_offsets(places)
        return found


class Offsets:
    """Watches what a group commits: an offset that goes back was committed by somebody who had lost it."""

    def __init__(self, servers: str, group: str) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        self._group = group
        self._latest: dict[TopicPartition, int] = {}
        self._watching: asyncio.Task[None] | None = None
        self._went_back = 0

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        await self._admin.start()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; an error of the watching is raised."""
        assert self._watching is not None
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching
        await self._admin.close()

    @property
    def problems(self) -> list[str]:
        """What was found, one sentence or none."""
        return [f"{self._went_back} committed offsets went back"] if self._went_back else []

    async def _watch(self) -> None:
        while True:
            for place, at in (await self._admin.list_consumer_group_offsets(self._group)).items():
                self._went_back += at.offset < self._latest.get(place, 0)
                self._latest[place] = at.offset
            await asyncio.sleep(_LOOK)


@asynccontextmanager
async def _consumer(
    servers: str, topics: Sequence[str], partitions: int
) -> AsyncIterator[tuple[AIOKafkaConsumer, dict[TopicPartition, int]]]:
    async with AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        places = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
        consumer.assign(places)
        yield consumer, await consumer.end_offsets(places)

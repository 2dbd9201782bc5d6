"""What operators and retention do to a cluster: expire the oldest unread records, delete a group's offsets.

Invariant: it says exactly what is gone.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import confluent_kafka.admin
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from tests.chaos import logs
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Gone = frozenset[tuple[int, int]]  # partitions and offsets


async def delete_offsets(servers: str, group: str) -> None:
    """Delete all that a group without members has committed."""
    client = confluent_kafka.admin.AdminClient({"bootstrap.servers": servers})
    (deleted,) = client.delete_consumer_groups([group]).values()
    await asyncio.to_thread(deleted.result)


async def expire(servers: str, group: str, topic: str, partitions: Collection[int], count: int) -> Gone:
    """Wait until the group is so far behind in each of the partitions, and delete that many records before it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        places = [TopicPartition(topic, number) for number in partitions]
        begin = {
            place: at.offset for place, at in (await admin.list_consumer_group_offsets(group, None, places)).items()
        }
        await eventually(partial(_far_enough, servers, {place: begin[place] + count for place in places}), within=60)
        await admin.delete_records({place: RecordsToDelete(begin[place] + count) for place in places})
    finally:
        await admin.close()
    return frozenset((place.partition, begin[place] + n) for place in places for n in range(count))


async def _far_enough(servers: str, wanted: Mapping[TopicPartition, int]) -> bool:
    ends = await logs.ends(servers, list(wanted))
    return all(ends[place] >= offset for place, offset in wanted.items())

"""Reads what the core needs to restore partitions: commits, bounds, and what the tiers and dead letters hold.

Invariant: everything up to the captured end is read before anything is handed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core.restore import Shelf
from streams.core.track import SHELF_SOURCE, Moved, parse_moved
from streams.ports import Committed, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.engine.family import Family
    from streams.ports import GroupConsumer, LogReader

    Scanned = list[tuple[int, bytes | None, Moved]]


async def read_shelves(
    family: Family, partitions: Sequence[int], consumer: GroupConsumer, reader: LogReader
) -> dict[int, dict[int, Shelf]]:
    """The shelves of each partition.

    Raises:
        TransientError: The cluster cannot be read for now.
    """
    topics = list(family.shelves)
    places = [TopicPartition(topic, partition) for topic in topics for partition in partitions]
    commits = await consumer.committed(places)
    starts, ends = await reader.starts(topics), await reader.ends(topics)
    # A commit below the log's start has expired: what was there is gone, so begin with what is left.
    begin = {p: max(commits.get(p, Committed(0, "")).offset, starts[p]) for p in places}
    scanned = await _scan(family, reader, begin, ends)
    return {
        partition: {
            shelf: Shelf(begin[place], _metadata(commits, place, begin), ends[place], scanned[place])
            for shelf in family.topics
            for place in [family.place(partition, shelf)]
        }
        for partition in partitions
    }


def _metadata(
    commits: Mapping[TopicPartition, Committed], place: TopicPartition, begin: Mapping[TopicPartition, int]
) -> str:
    # The map counts from the committed offset: after a jump to the log's start it would name other records.
    found = commits.get(place)
    return found.metadata if found is not None and found.offset == begin[place] else ""


async def _scan(
    family: Family, reader: LogReader, begin: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, Scanned]:
    found: dict[TopicPartition, Scanned] = {place: [] for place in begin}
    wanted = {
        place: start
        for place, start in begin.items()
        if family.shelves[place.topic] != SHELF_SOURCE and start < ends[place]
    }
    if wanted:
        async for records in reader.read(wanted, {place: ends[place] for place in wanted}):
            for record in records:
                place = TopicPartition(record.topic, record.partition)
                found[place].append((record.offset, record.key, parse_moved(record.headers)))
    return found

"""Reads what the core needs to restore partitions: commits, bounds, and what the tiers and dead letters hold.

Nothing is changed by it: who only wants to know where keys stand reads the same.

Invariant: everything up to the captured end is read before anything is handed over; where reading does not go on
where the group stood, the gap is handed over too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streams.core import commit_map, headers
from streams.core.gaps import begin
from streams.core.restore import Shelf, freed_by
from streams.core.scan import Scan
from streams.core.track import SHELF_SOURCE
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.core.gaps import Begin, Gap
    from streams.engine.family import Family
    from streams.ports import Commits, Committed, LogReader


class Found(NamedTuple):
    """The shelves of each partition, and what is missing in the log."""

    shelves: dict[int, dict[int, Shelf]]
    gaps: dict[TopicPartition, Gap]


async def read_shelves(family: Family, partitions: Sequence[int], commits: Commits, reader: LogReader) -> Found:
    """What the partitions need to be restored.

    Raises:
        TransientError: The cluster cannot be read for now.
    """
    topics = list(family.shelves)
    places = [TopicPartition(topic, partition) for topic in topics for partition in partitions]
    known = await commits.committed(places)
    starts, ends = await reader.starts(topics), await reader.ends(topics)
    worked = _worked(family, known, ends)
    begins = {p: begin(known.get(p), starts[p], ends[p], worked=p.partition in worked) for p in places}
    scanned = await _scan(family, reader, {place: at.offset for place, at in begins.items()}, ends)
    freed = await _freed(family, reader, begins, starts)
    shelves = {
        partition: {
            shelf: Shelf(
                begins[place].offset, begins[place].metadata, ends[place], scanned[place], freed.get(place, ())
            )
            for shelf in family.topics
            for place in [family.place(partition, shelf)]
        }
        for partition in partitions
    }
    return Found(shelves, {place: found.gap for place, found in begins.items() if found.gap is not None})


def _worked(
    family: Family, commits: Mapping[TopicPartition, Committed], ends: Mapping[TopicPartition, int]
) -> set[int]:
    """The partitions the group has worked on before: it commits all topics at once, and alone writes most of them."""
    own = {place for place, end in ends.items() if end and family.shelves[place.topic] != SHELF_SOURCE}
    return {place.partition for place in own | set(commits)}


async def _freed(
    family: Family, reader: LogReader, begins: Mapping[TopicPartition, Begin], starts: Mapping[TopicPartition, int]
) -> dict[TopicPartition, tuple[int, ...]]:
    """The dead letters that were freed, where a commit without a map cannot tell: their keys were held for ever.

    Every commit of a group's own has a fence. One without was made by another tool, or is damaged, or is gone.
    """
    dlts = [place for place in begins if family.shelves[place.topic] == headers.DLT]
    lost = [place for place in dlts if commit_map.decode(begins[place].offset, begins[place].metadata).fence is None]
    replays = {family.place(place.partition, 0): place for place in lost}
    read = await _scan(family, reader, {at: starts[at] for at in replays}, {at: begins[at].offset for at in replays})
    return {replays[at]: freed_by(scan) for at, scan in read.items()}


async def _scan(
    family: Family, reader: LogReader, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, Scan]:
    found = {place: Scan() for place in begins}
    wanted = {
        place: offset
        for place, offset in begins.items()
        if family.shelves[place.topic] != SHELF_SOURCE and offset < ends[place]
    }
    if wanted:
        async for records in reader.read(wanted, {place: ends[place] for place in wanted}):
            for record in records:
                found[TopicPartition(record.topic, record.partition)].add(record.offset, record.key, record.headers)
    return found

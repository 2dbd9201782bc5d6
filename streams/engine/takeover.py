"""Reads what the core needs to restore partitions: commits, bounds, and what the tiers and dead letters hold.

Nothing is changed by it: who only wants to know where keys stand reads the same.

Invariant: of a partition everything up to the captured end is read before it is handed over; where reading does not
go on where the group stood, the gap is handed over too.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from streams.core import commit_map, headers
from streams.core.gaps import begin
from streams.core.restore import Shelf, freed_by
from streams.core.scan import Scan
from streams.core.track import SHELF_SOURCE
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from streams.core.gaps import Begin, Gap
    from streams.engine.family import Family
    from streams.ports import Commits, Committed, LogReader


_PORTION = 200_000  # records: some 10 MB until they are restored


class Found(NamedTuple):
    """The shelves of each partition, and what is missing in the log."""

    shelves: dict[int, dict[int, Shelf]]
    gaps: dict[TopicPartition, Gap]


async def read_shelves(family: Family, partitions: Sequence[int], commits: Commits, reader: LogReader) -> Found:
    """What the partitions need to be restored.

    Raises:
        TransientError: The cluster cannot be read for now.
    """
    found = Found({}, {})
    async for some in read_in_portions(family, partitions, commits, reader):
        found.shelves.update(some.shelves)
        found.gaps.update(some.gaps)
    return found


async def read_in_portions(
    family: Family, partitions: Sequence[int], commits: Commits, reader: LogReader
) -> AsyncIterator[Found]:
    """The same, a few partitions at a time: who restores these before the next are read needs less memory.

    Raises:
        TransientError: The cluster cannot be read for now.
    """
    topics = list(family.shelves)
    places = [TopicPartition(topic, partition) for topic in topics for partition in partitions]
    known = await commits.committed(places)
    starts, ends = await reader.starts(topics), await reader.ends(topics)
    worked = _worked(family, known, ends)
    begins = {p: begin(known.get(p), starts[p], ends[p], worked=p.partition in worked) for p in places}
    waiting = dict.fromkeys(partitions, 0)
    for place, at in begins.items():
        if family.shelves[place.topic] != SHELF_SOURCE:
            waiting[place.partition] += ends[place] - at.offset
    for portion in _portions(waiting):
        some = {place: at for place, at in begins.items() if place.partition in portion}
        yield await _read(family, reader, some, starts, ends)


def _portions(waiting: Mapping[int, int]) -> Iterator[list[int]]:
    """Partitions in groups of no more than ``_PORTION`` records, or of one that has more."""
    portion: list[int] = []
    for partition, records in waiting.items():
        if portion and records + sum(waiting[each] for each in portion) > _PORTION:
            yield portion
            portion = []
        portion.append(partition)
    if portion:
        yield portion


async def _read(
    family: Family,
    reader: LogReader,
    begins: Mapping[TopicPartition, Begin],
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> Found:
    scanned = await _scan(family, reader, {place: at.offset for place, at in begins.items()}, ends)
    freed = await _freed(family, reader, begins, starts)
    shelves: dict[int, dict[int, Shelf]] = defaultdict(dict)
    for place, at in begins.items():
        shelves[place.partition][family.shelves[place.topic]] = Shelf(
            at.offset, at.metadata, ends[place], scanned[place], freed.get(place, ())
        )
    return Found(dict(shelves), {place: found.gap for place, found in begins.items() if found.gap is not None})


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
            for place, some in groupby(records, key=attrgetter("topic", "partition")):
                add = found[TopicPartition(*place)].add
                for record in some:
                    add(record.offset, record.key, record.headers)
    return found

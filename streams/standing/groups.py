"""How far one group is with its family: lag, what waits in tiers and since when, what is due, what is held; its pace.

Invariant: every figure comes from the same restore that a worker does on taking over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streams.core import commit_map, headers
from streams.core.restore import restore
from streams.core.track import SHELF_SOURCE
from streams.engine.takeover import read_shelves
from streams.ports import TopicPartition
from streams.standing.topics import partitions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streams.core.gaps import Gap
    from streams.core.lanes import Lanes
    from streams.core.restore import Shelf
    from streams.core.scan import Waiting
    from streams.engine.family import Family
    from streams.ports import Commits, LogReader, Record

# Behind the commit stands the oldest unfinished record, unless a marker or a gap of compaction comes first.
_NEAR = 50


class PartitionLag(NamedTuple):
    """A partition of the source: records no commit calls finished, and when the oldest was published (ms)."""

    partition: int
    lag: int
    oldest: int | None


@dataclass(frozen=True, slots=True)
class GroupStanding:
    """See the module.

    Attributes:
        parked: Records that wait in each tier.
        due: How many of them may run now, or wait only for an earlier one of their key.
        next_due: When the next of the others may, seconds since the epoch.
        oldest: When the oldest unfinished record of the source and the tiers was published, ms since the epoch.
        held_keys: Keys that wait behind a dead letter.
    """

    group: str
    source: str
    partitions: tuple[PartitionLag, ...]
    parked: Mapping[int, int]
    due: int
    next_due: float | None
    oldest: int | None
    held_keys: int
    gaps: Mapping[TopicPartition, Gap]

    @property
    def lag(self) -> int:
        """Unfinished records of the source."""
        return sum(one.lag for one in self.partitions)


class Progress(NamedTuple):
    """How much of the source was published, and finished by the group, up to a moment (seconds)."""

    at: float
    published: int
    finished: int

    def since(self, before: Progress) -> tuple[float, float]:
        """Records published and finished per second since an earlier look."""
        seconds = max(self.at - before.at, 0.001)
        return (self.published - before.published) / seconds, (self.finished - before.finished) / seconds


async def progress(family: Family, commits: Commits, reader: LogReader, now: float) -> Progress:
    """How far the source is; a commit map's offsets count as finished.

    Raises:
        MissingTopicError: A topic of the family does not exist.
        TransientError: No broker answered.
    """
    source = family.topics[SHELF_SOURCE]
    ends = await reader.ends([source])
    known = await commits.committed(list(ends))
    finished = 0
    for offset, metadata in known.values():
        finished += offset + sum(b - a for a, b in commit_map.decode(offset, metadata).finished)
    return Progress(now, sum(ends.values()), finished)


async def standing(family: Family, commits: Commits, reader: LogReader, now: float) -> GroupStanding:
    """Where the group stands; it takes as long as a worker takes to restore all partitions.

    Raises:
        MissingTopicError: A topic of the family does not exist.
        TransientError: No broker answered.
    """
    partitions = await partitions_of(family, reader)
    shelves, gaps = await read_shelves(family, partitions, commits, reader)
    lanes = {p: restore(p, (), "", shelves[p]) for p in partitions}
    waiting = [one for p in partitions for one in _waiting(shelves[p], lanes[p])]
    lags = {p: _lag(shelves[p][SHELF_SOURCE], lanes[p]) for p in partitions}
    published = await _published(family, reader, shelves, lags, lanes)
    due = [one.due for _, one in waiting]
    return GroupStanding(
        family.group,
        family.topics[SHELF_SOURCE],
        tuple(PartitionLag(p, lags[p], published.get(family.place(p, SHELF_SOURCE))) for p in partitions),
        {tier: sum(shelf == tier for shelf, _ in waiting) for tier in family.topics if tier not in _NO_TIERS},
        sum(at <= now for at in due),
        min((at for at in due if at > now), default=None),
        min(published.values(), default=None),
        sum(len(one.held) for one in lanes.values()),
        gaps,
    )


_NO_TIERS = {SHELF_SOURCE, headers.DLT}


def _waiting(shelves: Mapping[int, Shelf], lanes: Lanes) -> Iterator[tuple[int, Waiting]]:
    """The records that wait in tiers, with their tier."""
    for shelf, read in shelves.items():
        if shelf not in _NO_TIERS:
            for waiting in read.scanned.waiting():
                if waiting.way.control is None and not lanes.tracks[shelf].is_finished(waiting.offset):
                    yield shelf, waiting


def _lag(source: Shelf, lanes: Lanes) -> int:
    ahead = sum(min(stop, source.end) - start for start, stop in lanes.source.ahead if start < source.end)
    return source.end - source.committed - ahead


async def _published(
    family: Family,
    reader: LogReader,
    shelves: Mapping[int, Mapping[int, Shelf]],
    lags: Mapping[int, int],
    lanes: Mapping[int, Lanes],
) -> dict[TopicPartition, int]:
    """When the oldest unfinished record of each place was published, ms since the epoch."""
    spans = {}
    for partition, found in shelves.items():
        for shelf, read in found.items():
            first = _first(shelf, read, lanes[partition], lags[partition])
            if first is not None:
                spans[family.place(partition, shelf)] = (first, min(read.end, first + _NEAR))
    oldest: dict[TopicPartition, int] = {}
    if spans:
        starts, ends = ({place: span[side] for place, span in spans.items()} for side in (0, 1))
        async for batch in reader.read(starts, ends):
            for record in batch:
                oldest.setdefault(TopicPartition(record.topic, record.partition), _origin_time(record))
    return oldest


def _first(shelf: int, read: Shelf, lanes: Lanes, lag: int) -> int | None:
    """The offset of the oldest unfinished record."""
    if shelf == headers.DLT:
        return None
    if shelf == SHELF_SOURCE:
        return read.committed if lag else None
    track = lanes.tracks[shelf]
    return next((offset for offset, *_ in read.scanned if not track.is_finished(offset)), None)


def _origin_time(record: Record) -> int:
    return headers.number(record.headers, headers.ORIGIN_TIMESTAMP) or record.timestamp

"""Where things stand: a key, as the topics tell it and as its owner has it in memory; and a whole group in one process.

Invariant: looking changes nothing, and every figure is derived from the structures; none is kept beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.core import headers
from streams.core.headers import Level
from streams.core.track import SHELF_SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.core.group import Core
    from streams.core.lanes import Lanes
    from streams.core.restore import Shelf
    from streams.core.track import Track


@dataclass(frozen=True, slots=True)
class AtLevel:
    """The records of a key that wait at one level.

    Attributes:
        shelf: The topic they are in.
        offset: Of the first.
        due: When it may run, seconds since the epoch; 0 for at once.
        attempts: Its failed runs.
        records: How many there are, the first included.
    """

    level: Level
    shelf: int
    offset: int
    due: float
    attempts: int
    records: int


@dataclass(frozen=True, slots=True)
class InMemory:
    """What the owner of a key's partition holds of it.

    Attributes:
        running: Records whose handlers run now.
        waiting: Records that were read and do not run yet.
        due: When the first of them may run, seconds since the epoch; 0 for at once.
        attempts: Its failed runs.
        writing: Records on their way to a retry topic or the dead letters.
        awaits_commit: Whether a commit must be acknowledged before the key goes on.
    """

    running: int = 0
    waiting: int = 0
    due: float = 0.0
    attempts: int = 0
    writing: int = 0
    awaits_commit: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """A group in one process.

    Attributes:
        running: Records whose handlers run.
        waiting: Records held in memory whose handlers do not run yet.
        parked: Records that wait in retry topics, in memory or not.
        due: Records of retry topics in memory whose time has come.
        oldest: When the oldest record in memory that is not finished was published, ms since the epoch.
        held_keys: Keys that wait behind a dead letter.
        paused: Partitions that are not fetched.
        fenced: Records of owners before us that were passed over.
    """

    running: int
    waiting: int
    parked: int
    due: int
    oldest: int | None
    held_keys: int
    paused: int
    fenced: int


def figures(core: Core, ends: Mapping[tuple[int, int], int], now: float) -> Figures:
    """Where the group stands.

    Args:
        core: Of the group.
        ends: The end offsets that are known by now, by partition and shelf.
        now: Seconds since the epoch.
    """
    lanes = list(core.partitions.values())
    tracks = [(each.partition, track) for each in lanes for track in each.tracks.values()]
    tiers = [(partition, track) for partition, track in tracks if track.shelf not in _NO_TIERS]
    read = [track for _, track in tracks if track.shelf != headers.DLT]
    running = sum(map(len, core.running))
    ages = map(_published, read)
    return Figures(
        running=running,
        waiting=max(0, sum(len(track.pending) + len(track.inbox) for track in read) - running),
        parked=sum(_parked(track, ends.get((partition, track.shelf), 0)) for partition, track in tiers),
        due=sum(entry.due <= now for _, track in tiers for entry in track.pending.values()),
        oldest=min((age for age in ages if age is not None), default=None),
        held_keys=sum(len(each.held) for each in lanes),
        paused=sum(track.paused for _, track in tracks),
        fenced=sum(each.fenced for each in lanes),
    )


_NO_TIERS = {SHELF_SOURCE, headers.DLT}


def _parked(track: Track, end: int) -> int:
    end = max(end, track.end)
    known = sum(min(stop, end) - max(start, track.position) for start, stop in track.ahead if start < end)
    return len(track.pending) + max(0, end - track.position - known)


def _published(track: Track) -> int | None:
    """When the oldest unfinished record that was read of it was published first."""
    first = next(iter(track.pending.values()), None)
    if first is None or first.record is None:
        return None
    return headers.number(first.record.headers, headers.ORIGIN_TIMESTAMP) or int(first.record.timestamp)


def at_levels(lanes: Lanes, shelves: Mapping[int, Shelf], key: bytes) -> tuple[AtLevel, ...]:
    """What of the key is outstanding above the source, the level that runs first in front.

    ``lanes`` are those restored from ``shelves``.
    """
    found: dict[Level, AtLevel] = {}
    for shelf, read in shelves.items():
        for offset, of, way, due, attempts in read.scanned.waiting():
            if of != key or way.control is not None or not _waits(lanes, shelf, offset):
                continue
            level = way.level or (headers.dlt_level(0) if shelf == headers.DLT else Level(0, 0, shelf))
            first = found.get(level) or AtLevel(level, shelf, offset, due, attempts, 0)
            found[level] = AtLevel(level, shelf, first.offset, first.due, first.attempts, first.records + 1)
    return tuple(found[level] for level in sorted(found, reverse=True))


def _waits(lanes: Lanes, shelf: int, offset: int) -> bool:
    if shelf == headers.DLT:  # one that holds nothing is pending until the next commit, but nobody waits for it
        return lanes.held.find(offset) is not None
    return not lanes.tracks[shelf].is_finished(offset)


def in_memory(core: Core, partition: int, key: bytes) -> InMemory | None:
    """What a worker holds of the key; None where the partition is not its own."""
    lanes = core.partitions.get(partition)
    if lanes is None:
        return None
    writing = sum(entry.key == key and core.owns(entry) for entry in core.appending)
    lane = lanes.lanes.get(key)
    if lane is None:
        return InMemory(writing=writing)
    queue = lane.queue(lanes.outstanding.top(key))
    due, attempts = (queue[0].due, queue[0].attempts) if queue else (0.0, 0)
    held = sum(len(lane.queue(level) or ()) for level in lane.levels)
    return InMemory(lane.running, held - lane.running, due, attempts, writing, lane in lanes.gated)

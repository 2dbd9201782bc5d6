"""Where one key stands: above the source as the topics tell it, and in the memory of the worker that owns it.

Invariant: looking changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.core import headers
from streams.core.headers import Level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.core.group import Core
    from streams.core.lanes import Lanes
    from streams.core.restore import Shelf


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


def at_levels(lanes: Lanes, shelves: Mapping[int, Shelf], key: bytes) -> tuple[AtLevel, ...]:
    """What of the key is outstanding above the source, the level that runs first in front.

    ``lanes`` are those restored from ``shelves``.
    """
    found: dict[Level, AtLevel] = {}
    for shelf, read in shelves.items():
        for offset, of, moved in read.scanned:
            if of != key or moved.control is not None or lanes.tracks[shelf].is_finished(offset):
                continue
            level = moved.level or (headers.dlt_level(0) if shelf == headers.DLT else Level(0, 0, shelf))
            first = found.get(level) or AtLevel(level, shelf, offset, moved.due, moved.attempts, 0)
            found[level] = AtLevel(level, shelf, first.offset, first.due, first.attempts, first.records + 1)
    return tuple(found[level] for level in sorted(found, reverse=True))


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

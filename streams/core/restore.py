"""Rebuilds a partition's lanes on assignment, before anything runs, from what was committed and what the tiers hold.

Invariant: of a moved record found at several levels only the highest copy counts, and what an owner before us
wrote after it had lost the partition does not count at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.core import commit_map, headers
from streams.core.commit_map import Fence
from streams.core.headers import Level
from streams.core.lanes import Lanes
from streams.core.track import SHELF_SOURCE, Moved, Track, shelf_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is known of one topic's partition: commit, end offset, and the records between (tiers and dead letters).

    Attributes:
        committed: The committed offset, or the log's start where there is none (or it has expired).
        metadata: The text committed with it.
        end: The end offset when the scan began.
        scanned: ``(offset, key, way)`` of the records from ``committed`` to ``end``, ascending; empty for the source.
    """

    committed: int
    metadata: str = ""
    end: int = 0
    scanned: Sequence[tuple[int, bytes | None, Moved]] = ()


def restore(partition: int, tiers: tuple[float, ...], mover: str, shelves: Mapping[int, Shelf]) -> Lanes:
    """The lanes of a partition, not yet open."""
    tracks = {
        number: Track(number, shelf.committed, commit_map.decode(shelf.committed, shelf.metadata), shelf.end)
        for number, shelf in shelves.items()
    }
    lanes = Lanes(partition, tiers, mover, tracks)
    _pass_over_zombies(shelves, tracks)
    _drop_lower_copies(shelves, tracks)
    for number, offset, key, moved in _unfinished(shelves, tracks):
        level = moved.level or Level(0, 0, number)
        if number == headers.DLT:
            _keep_dead(lanes, offset, key, moved)
        elif moved.control is None:
            lanes.outstanding.add(level, key)
    for number, track in tracks.items():
        if number != SHELF_SOURCE:
            track.fence = Fence(track.end, mover)
    lanes.dlt.position = max(lanes.dlt.position, lanes.dlt.end)
    lanes.dlt.ahead.drop_below(lanes.dlt.position)
    return lanes


def _keep_dead(lanes: Lanes, offset: int, key: bytes | None, moved: Moved) -> None:
    level = moved.level or headers.dlt_level(0)
    held = moved.hold and key is not None
    if held:
        lanes.outstanding.add(level, key)
    lanes.keep_dead(offset, key, level, hold=held, follower=moved.follower)


def _pass_over_zombies(shelves: Mapping[int, Shelf], tracks: Mapping[int, Track]) -> None:
    for number, shelf in shelves.items():
        fence = tracks[number].fence
        if fence is None:
            continue
        for offset, _, moved in shelf.scanned:
            if offset >= fence.offset and moved.mover not in {None, fence.mover}:
                tracks[number].mark_finished(offset)


def _drop_lower_copies(shelves: Mapping[int, Shelf], tracks: Mapping[int, Track]) -> None:
    """Of the copies of a record, known by its origin, only the highest counts; so does none at the source.

    The place a copy came from is finished even where its origin is not told. First collect, then mark: a copy is
    evidence for where it came from even if a higher copy of it exists.
    """
    highest: dict[int, tuple[Level, int, int]] = {}
    finished: list[tuple[int, int]] = []
    for number, offset, _, moved in _unfinished(shelves, tracks):
        if moved.came_from is not None:
            finished.append((shelf_of(moved.came_from.level), moved.came_from.offset))
        if moved.origin is not None and moved.control is None:
            finished.append((SHELF_SOURCE, moved.origin))
            # Of two copies at one level the first stands: the second was written by somebody who did not know of it.
            copy = (moved.level or Level(0, 0, number), -offset, number)
            before = highest.get(moved.origin)
            highest[moved.origin] = copy if before is None else max(before, copy)
            if before is not None:
                _, lower, where = min(before, copy)
                finished.append((where, -lower))
    for number, offset in finished:
        if number in tracks:
            tracks[number].mark_finished(offset)


def _unfinished(
    shelves: Mapping[int, Shelf], tracks: Mapping[int, Track]
) -> Iterator[tuple[int, int, bytes | None, Moved]]:
    for number, shelf in shelves.items():
        track = tracks[number]
        for offset, key, moved in shelf.scanned:
            if not track.is_finished(offset):
                yield number, offset, key, moved

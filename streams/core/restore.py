"""Rebuilds a partition's lanes on assignment, before anything runs, from what was committed and what the tiers hold.

Invariant: of a moved record found at several levels only the highest copy counts, and what an owner before us
wrote after it had lost the partition does not count at all.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from streams.core import commit_map, headers
from streams.core.commit_map import Fence
from streams.core.headers import SOURCE, Level, Place
from streams.core.lanes import LEAVING, Lanes
from streams.core.scan import NO_ORIGIN, Scan, Way
from streams.core.track import SHELF_SOURCE, Track, shelf_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is known of one topic's partition: commit, end offset, and the records between (tiers and dead letters).

    Attributes:
        committed: The committed offset, or the log's start where there is none (or it has expired).
        metadata: The text committed with it.
        end: The end offset when the scan began.
        scanned: The records from ``committed`` to ``end``; none of the source.
        freed: Of the dead letters: those known to be freed although ``metadata`` may not say so.
    """

    committed: int
    metadata: str = ""
    end: int = 0
    scanned: Scan = field(default_factory=Scan)
    freed: tuple[int, ...] = ()


def restore(
    partition: int, tiers: tuple[float, ...], mover: str, shelves: Mapping[int, Shelf], leaving: int = LEAVING
) -> Lanes:
    """The lanes of a partition, not yet open."""
    tracks = {
        number: Track(number, shelf.committed, commit_map.decode(shelf.committed, shelf.metadata), shelf.end)
        for number, shelf in shelves.items()
    }
    lanes = Lanes(partition, tiers, mover, tracks, leaving)
    _pass_over_zombies(shelves, tracks)
    for offset in shelves[headers.DLT].freed:
        tracks[headers.DLT].mark_finished(offset)
    dead = list(_unfinished({headers.DLT: shelves[headers.DLT]}, tracks))
    _drop_lower_copies(shelves, tracks)
    for number, _, key, way, _, _ in _unfinished(shelves, tracks):
        if number != headers.DLT and way.control is None:
            lanes.outstanding.add(way.level or Level(0, 0, number), key)
    for _, offset, key, way, left_at, _ in dead:
        _keep_dead(lanes, offset, key, way, left_at)
    for number, track in tracks.items():
        if number != SHELF_SOURCE:
            track.fence = Fence(track.end, mover)
    lanes.dlt.position = max(lanes.dlt.position, lanes.dlt.end)
    lanes.dlt.ahead.drop_below(lanes.dlt.position)
    return lanes


def freed_by(replays: Scan) -> tuple[int, ...]:
    """The offsets of the dead letters that these replays and discards were made of."""
    return tuple(at for _, _, way, at, _ in replays if way.left is not None and shelf_of(way.left) == headers.DLT)


def _keep_dead(lanes: Lanes, offset: int, key: bytes | None, way: Way, left_at: int) -> None:
    level = way.level or headers.dlt_level(0)
    held = way.hold and key is not None and not lanes.dlt.is_finished(offset)
    if held:
        lanes.outstanding.add(level, key)
    left = way.left
    place = Place(left, left_at) if left is not None and shelf_of(left) in lanes.tracks else None
    lanes.dead.keep(offset, key, level, place, hold=held, follower=way.follower)


def _pass_over_zombies(shelves: Mapping[int, Shelf], tracks: Mapping[int, Track]) -> None:
    for number, shelf in shelves.items():
        fence = tracks[number].fence
        if fence is None:
            continue
        for offset, _, way, _, _ in shelf.scanned:
            if offset >= fence.offset and way.mover not in {None, fence.mover}:
                tracks[number].mark_finished(offset)


def _drop_lower_copies(shelves: Mapping[int, Shelf], tracks: Mapping[int, Track]) -> None:
    """Of the copies of a record, known by its origin, only the highest counts; so does none at the source.

    The place a copy came from is finished even where its origin is not told. First collect, then mark: a copy is
    evidence for where it came from even if a higher copy of it exists.
    """
    finished: dict[int, array[int]] = defaultdict(lambda: array("q"))
    for number, offset in _left_behind(shelves, tracks):
        # Nearly all of them were committed long ago: only what is news is kept.
        if number in tracks and not tracks[number].is_finished(offset):
            finished[number].append(offset)
    for number, offsets in finished.items():
        for offset in sorted(offsets):  # ascending, so that each extends the last interval
            tracks[number].mark_finished(offset)


def _left_behind(shelves: Mapping[int, Shelf], tracks: Mapping[int, Track]) -> Iterator[tuple[int, int]]:
    """The places that records were moved from, and those of lower copies."""
    twice = _found_twice(shelves, tracks)
    highest: dict[int, tuple[Level, int, int]] = {}
    for number, offset, _, way, left_at, origin in _unfinished(shelves, tracks):
        left = way.left
        if left is not None:
            yield shelf_of(left), left_at
        if origin == NO_ORIGIN or way.control is not None:
            continue
        if left is not SOURCE or left_at != origin:
            yield SHELF_SOURCE, origin
        if origin in twice:
            # Of two copies at one level the first stands: the second was written by somebody who did not know of it.
            copy = (way.level or Level(0, 0, number), -offset, number)
            before = highest.get(origin)
            highest[origin] = copy if before is None else max(before, copy)
            if before is not None:
                _, lower, where = min(before, copy)
                yield where, -lower


def _found_twice(shelves: Mapping[int, Shelf], tracks: Mapping[int, Track]) -> set[int]:
    """The origins of more than one unfinished record."""
    found = array("q", (origin for *_, way, _, origin in _unfinished(shelves, tracks) if way.control is None))
    ascending = sorted(found)
    return {origin for origin, following in pairwise(ascending) if origin == following} - {NO_ORIGIN}


def _unfinished(
    shelves: Mapping[int, Shelf], tracks: Mapping[int, Track]
) -> Iterator[tuple[int, int, bytes | None, Way, int, int]]:
    for number, shelf in shelves.items():
        track = tracks[number]
        some = track.ahead or track.position > shelf.committed  # mostly nothing is, and a tier may hold millions
        for offset, key, way, left_at, origin in shelf.scanned:
            if not (some and track.is_finished(offset)):
                yield number, offset, key, way, left_at, origin

"""The logs and commits of one family in memory."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from streams.core import headers
from streams.core.replay import Where, discard_headers, replay_headers
from streams.core.restore import Shelf
from streams.core.scan import Scan
from streams.core.track import SHELF_SOURCE, parse_moved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.core.track import Moved

    Place = tuple[int, int]  # partition and shelf


class Rec(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Broker:
    def __init__(self, partitions: int, topics: Mapping[int, str]) -> None:
        self.topics = topics
        self.shelves = list(topics)
        self.logs: dict[Place, list[Rec]] = {(p, s): [] for p in range(partitions) for s in self.shelves}
        self.offsets: dict[Place, list[int]] = {place: [] for place in self.logs}
        self.starts = dict.fromkeys(self.logs, 0)
        self.ends = dict.fromkeys(self.logs, 0)
        self.commits: dict[Place, tuple[int, str]] = {}
        self.history: list[dict[Place, tuple[int, str]]] = []  # what was committed before
        self._letters: dict[int, list[tuple[Rec, Moved]]] = {p: [] for p in range(partitions)}
        self.acted: set[Place] = set()  # dead letters (partition, offset) an operator replayed or discarded

    def append(self, partition: int, shelf: int, key, value, record_headers=(), gap: int = 0) -> int:
        """Store a record; ``gap`` offsets before it are never readable (compaction, transaction markers)."""
        place = partition, shelf
        offset = self.ends[place] + gap
        record = Rec(self.topics[shelf], partition, offset, 0, key, value, tuple(record_headers))
        self.logs[place].append(record)
        self.offsets[place].append(offset)
        self.ends[place] = offset + 1
        if shelf == headers.DLT:
            self._letters[partition].append((record, parse_moved(record.headers)))
        return offset

    def read(self, partition: int, shelf: int, position: int, most: int) -> list[Rec]:
        first = bisect_left(self.offsets[partition, shelf], max(position, self.starts[partition, shelf]))
        return self.logs[partition, shelf][first : first + most]

    def commit(self, offsets: Mapping[Place, tuple[int, str]]) -> None:
        self.history.append(dict(self.commits))
        self.commits |= offsets

    def shelf(self, partition: int, shelf: int) -> Shelf:
        """What a worker that takes over is to know."""
        offset, text = self.commits.get((partition, shelf), (0, ""))
        end = self.ends[partition, shelf]
        records = [] if shelf == SHELF_SOURCE else self.read(partition, shelf, offset, 10**9)
        scan = Scan()
        for record in records:
            scan.add(record.offset, record.key, record.headers)
        return Shelf(offset, text, end, scan)

    def open_dead_letters(self, partition: int) -> list[Rec]:
        """Dead ones (no followers) an operator has not acted on; of a held key only the first."""
        found, held = [], set()
        for record, moved in self._letters[partition]:
            if moved.follower or (partition, record.offset) in self.acted:
                continue
            if moved.hold and record.key in held:
                continue
            held.add(record.key)
            found.append(record)
        return found

    def replay(self, record: Rec) -> int:
        self.acted.add((record.partition, record.offset))
        where = Where(record.topic, record.partition)
        found = replay_headers(record.headers, where, record.offset, "r1")
        return self.append(record.partition, 0, record.key, record.value, found)

    def discard(self, record: Rec) -> int:
        self.acted.add((record.partition, record.offset))
        return self.append(record.partition, 0, record.key, b"", discard_headers(record.headers, record.offset, "d1"))

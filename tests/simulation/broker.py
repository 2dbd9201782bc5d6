"""An in-memory broker for one family: logs, commits, and an operator who replays and discards dead letters."""

from __future__ import annotations

from typing import NamedTuple

from streams.core import headers
from streams.core.headers import Level, Place, format_level, format_place
from streams.core.restore import Shelf
from streams.core.scan import Scan
from streams.core.track import SHELF_SOURCE, parse_moved


class Rec(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Broker:
    def __init__(self, partitions: int, tiers: int) -> None:
        self.shelves = [SHELF_SOURCE, *range(tiers + 1), headers.DLT]
        self.logs: dict[tuple[int, int], list[Rec]] = {(p, s): [] for p in range(partitions) for s in self.shelves}
        self.ends = dict.fromkeys(self.logs, 0)
        self.commits: dict[tuple[int, int], tuple[int, str]] = {}
        self.acted: set[tuple[int, int]] = set()  # dead letters an operator replayed or discarded

    def append(self, partition: int, shelf: int, key, value, record_headers=(), gap: int = 0) -> int:
        """Store a record; ``gap`` offsets before it are never readable (compaction, transaction markers)."""
        offset = self.ends[partition, shelf] + gap
        self.logs[partition, shelf].append(Rec(f"t{shelf}", partition, offset, 0, key, value, tuple(record_headers)))
        self.ends[partition, shelf] = offset + 1
        return offset

    def read(self, partition: int, shelf: int, position: int, most: int) -> list[Rec]:
        log = self.logs[partition, shelf]
        low, high = 0, len(log)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if log[middle].offset < position else (low, middle)
        return log[low : low + most]

    def shelf(self, partition: int, shelf: int) -> Shelf:
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
        for record in self.logs[partition, headers.DLT]:
            moved = parse_moved(record.headers)
            if moved.follower or (partition, record.offset) in self.acted:
                continue
            if moved.hold and record.key in held:
                continue
            held.add(record.key)
            found.append(record)
        return found

    def replay(self, record: Rec) -> None:
        level = parse_moved(record.headers).level
        self._operate(record, record.value, {headers.LEVEL: format_level(Level(level.generation + 1, 0, 0))})

    def discard(self, record: Rec) -> None:
        self._operate(record, b"", {headers.CONTROL: headers.DISCARD})

    def _operate(self, record: Rec, value: bytes, extra: dict[str, str]) -> None:
        self.acted.add((record.partition, record.offset))
        level = parse_moved(record.headers).level
        ways = {
            headers.FROM: format_place(Place(level, record.offset)),
            headers.MOVER: None,
            headers.ATTEMPTS: "0",
            headers.DUE: None,
            headers.HOLD: None,
            headers.CLASSIFICATION: None,
            **extra,
        }
        self.append(record.partition, 0, record.key, value, headers.replaced(record.headers, ways))

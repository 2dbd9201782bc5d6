"""What a restore scan keeps of each record: offset, key and way, in columns, since a tier may hold millions.

Invariant: a record costs some fifty bytes; equal keys and equal ways are one object.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from streams.core import headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streams.core.headers import Level

    Raw = tuple[bytes | None, ...]

NO_ORIGIN = -1


class Way(NamedTuple):
    """What the headers of many records say alike; ``left`` is the level each of them was moved from."""

    level: Level | None
    left: Level | None
    mover: str | None
    hold: bool
    follower: bool
    control: str | None
    attempts: int


class Waiting(NamedTuple):
    """A record that waits in a tier or behind a dead letter; ``due`` in seconds since the epoch."""

    offset: int
    key: bytes | None
    way: Way
    due: float
    attempts: int


class Scan:
    """The records of one topic's partition, ascending, as ``(offset, key, way, left at, origin)``.

    ``left at`` is the offset at the level that the way says was left, ``origin`` the offset in the source, else
    ``NO_ORIGIN``.
    """

    __slots__ = (
        "_dues",
        "_keys",
        "_known_keys",
        "_known_ways",
        "_left_at",
        "_offsets",
        "_origins",
        "_ways",
    )

    def __init__(self) -> None:
        self._offsets = array("q")
        self._left_at = array("q")
        self._origins = array("q")
        self._dues = array("q")
        self._keys: list[bytes | None] = []
        self._ways: list[Way] = []
        self._known_keys: dict[bytes | None, bytes | None] = {}
        self._known_ways: dict[Raw, Way] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[tuple[int, bytes | None, Way, int, int]]:
        return zip(self._offsets, self._keys, self._ways, self._left_at, self._origins, strict=True)

    def waiting(self) -> Iterator[Waiting]:
        """The same records, with when they are due and how often they have run."""
        for offset, key, way, due in zip(self._offsets, self._keys, self._ways, self._dues, strict=True):
            yield Waiting(offset, key, way, due / 1000, way.attempts)

    def add(self, offset: int, key: bytes | None, record_headers: Sequence[tuple[str, bytes]]) -> None:
        """Note a record; of each header the last counts, and what a stranger left out or misspelt is absent."""
        found = dict(record_headers)
        left, _, at = (found.get(headers.FROM) or b"").rpartition(b"@")
        left_at = headers.parse_number(at)
        first = found.get(headers.ORIGIN_OFFSET)
        origin = left_at if first == at else headers.parse_number(first)  # alike where it has moved once
        raw = (
            found.get(headers.LEVEL),
            b"" if left_at is None else left,
            found.get(headers.MOVER),
            found.get(headers.HOLD),
            found.get(headers.CLASSIFICATION),
            found.get(headers.CONTROL),
            found.get(headers.ATTEMPTS),
        )
        self._offsets.append(offset)
        self._left_at.append(left_at or 0)
        self._origins.append(NO_ORIGIN if origin is None else origin)
        self._dues.append(headers.parse_number(found.get(headers.DUE)) or 0)
        self._keys.append(self._known_keys.setdefault(key, key))
        self._ways.append(self._known_ways.get(raw) or self._way(raw))

    def _way(self, raw: Raw) -> Way:
        level, left, mover, hold, classification, control, attempts = raw
        way = self._known_ways[raw] = Way(
            level=headers.parse_level(level),
            left=headers.parse_level(left),
            mover=None if mover is None else mover.decode(errors="replace"),
            hold=hold == headers.HELD.encode(),
            follower=classification == headers.FOLLOWER.encode(),
            control=None if control is None else control.decode(errors="replace"),
            attempts=headers.parse_number(attempts) or 0,
        )
        return way

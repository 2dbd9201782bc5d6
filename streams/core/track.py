"""One partition of one topic of a family: what was read of it and is not finished.

Invariant: ``pending`` holds exactly the admitted offsets that are not finished, ascending; every count and the
committed offset are derived from it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.core import commit_map, headers
from streams.core.intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from streams.core.commit_map import CommitMap, Fence
    from streams.core.headers import Level, Place

SHELF_SOURCE = -1  # a shelf is one topic of the family: the source, a tier's number, or headers.DLT


def shelf_of(level: Level) -> int:
    """The topic a level's records are stored in; several levels share one."""
    return SHELF_SOURCE if level == headers.SOURCE else level.tier


class Entry:
    """A record in a lane. ``due`` in seconds since the epoch; ``came_from`` is set while a commit must cover it."""

    __slots__ = ("attempts", "came_from", "due", "key", "lane", "level", "offset", "record", "size", "track")

    def __init__(self, track: Track, offset: int, key: bytes | None, level: Level, record: Any) -> None:
        self.track = track
        self.offset = offset
        self.key = key
        self.level = level
        self.record = record
        self.size = len(record.value or b"") + len(key or b"") if record is not None else 0
        self.attempts = 0
        self.due = 0.0
        self.came_from: Place | None = None
        self.lane: Any = None

    def __repr__(self) -> str:
        return f"Entry({headers.format_level(self.level)}@{self.offset} key={self.key!r})"


class Moved(NamedTuple):
    """What the headers of a tier's or dead-letter topic's record say about its way; ``due`` in seconds."""

    level: Level | None = None
    came_from: Place | None = None
    mover: str | None = None
    due: float = 0.0
    attempts: int = 0
    hold: bool = False
    follower: bool = False
    control: str | None = None
    origin: int | None = None  # the offset it had in the source


def parse_moved(record_headers: Sequence[tuple[str, bytes]]) -> Moved:
    """Read the way from the headers, the last of each name; what a stranger left out or misspelt is absent."""
    found = dict(record_headers)
    mover, control = found.get(headers.MOVER), found.get(headers.CONTROL)
    return Moved(
        level=headers.parse_level(found.get(headers.LEVEL)),
        came_from=headers.parse_place(found.get(headers.FROM)),
        mover=None if mover is None else mover.decode(errors="replace"),
        due=(headers.parse_number(found.get(headers.DUE)) or 0) / 1000,
        attempts=headers.parse_number(found.get(headers.ATTEMPTS)) or 0,
        hold=found.get(headers.HOLD) == headers.HELD.encode(),
        follower=found.get(headers.CLASSIFICATION) == headers.FOLLOWER.encode(),
        control=None if control is None else control.decode(errors="replace"),
        origin=headers.parse_number(found.get(headers.ORIGIN_OFFSET)),
    )


class Track:
    """The progress through one partition of one topic.

    Attributes:
        position: The next offset to admit.
        end: The end offset when the partition was assigned; tier records below it are known from the restore scan.
        inbox: Records polled but not yet admitted.
        held_bytes: Bytes of the keys and values in ``pending``.
        ahead: Finished offsets at or above ``position`` (known from the last commit or the restore scan).
    """

    __slots__ = (
        "_left",
        "_moving",
        "_settled",
        "_told",
        "ahead",
        "end",
        "fence",
        "held_bytes",
        "inbox",
        "moved",
        "paused",
        "pending",
        "position",
        "shelf",
    )

    def __init__(self, shelf: int, committed: int, known: CommitMap, end: int = 0) -> None:
        self.shelf = shelf
        self.position = committed
        self.end = end
        self.fence: Fence | None = known.fence
        self.ahead = Intervals(known.finished)
        self.pending: dict[int, Entry] = {}
        self.inbox: deque[Any] = deque()
        self.paused = False
        # Offsets whose records moved away and whose finish no acknowledged commit covers yet: those since the last
        # commit was sent, and those it carries.
        self.moved: set[int] = set()
        self._moving: set[int] = set()
        # How many offsets were finished in the last snapshot, and in the last whole one that was acknowledged.
        self._left = self._settled = committed
        self._told: int | None = None  # the offset up to which the last snapshot tells what is finished, if not all
        self.held_bytes = 0

    @property
    def low_water(self) -> int:
        """The offset to commit: everything below it is finished."""
        return next(iter(self.pending), self.position)

    def hold(self, entry: Entry) -> None:
        """Admit an entry: it is outstanding until :meth:`finish`."""
        self.pending[entry.offset] = entry
        self.held_bytes += entry.size

    def finish(self, offset: int) -> None:
        """The record at ``offset`` needs nothing more from this partition."""
        self.held_bytes -= self.pending.pop(offset).size

    def mark_finished(self, offset: int) -> bool:
        """Note that an offset not yet admitted is finished; False if that was known already."""
        if offset < self.position or offset in self.ahead:
            return False
        self.ahead.add(offset, offset + 1)
        return True

    def is_finished(self, offset: int) -> bool:
        """Whether the record at ``offset`` needs nothing more from this partition."""
        return (offset < self.position and offset not in self.pending) or offset in self.ahead

    def covered(self, offset: int) -> bool:
        """Whether an acknowledged commit says that the record at ``offset`` is finished here."""
        return self.is_finished(offset) and offset not in self.moved and offset not in self._moving

    @property
    def settled(self) -> bool:
        """Whether an acknowledged commit covers all that was finished here, but for what moved away."""
        return self.position - len(self.pending) - len(self.moved) - len(self._moving) == self._settled

    def finished_above(self) -> Iterator[tuple[int, int]]:
        """The finished stretches above the low-water mark, ascending."""
        last = None
        if self.position - self.low_water == len(self.pending):  # no gap: nothing of a tier that waits is finished
            yield from self.ahead
            return
        for offset in self.pending:
            if last is not None and offset > last:
                yield last, offset
            last = offset + 1
        if last is not None and self.position > last:
            yield last, self.position
        yield from self.ahead

    def snapshot(self) -> tuple[int, str, bool]:
        """What to commit: offset, metadata, and whether the metadata held everything."""
        low = self.low_water
        text, complete = commit_map.encode(low, _joined(self.finished_above()), self.fence)
        self._moving |= self.moved
        self.moved = set()
        self._left = self.position - len(self.pending)
        self._told = None if complete else max((end for _, end in commit_map.decode(low, text).finished), default=low)
        return low, text, complete

    def committed(self) -> None:
        """The last snapshot was acknowledged."""
        self._moving = {offset for offset in self._moving if not self.told(offset)}
        if self._told is None:
            self._settled = self._left

    @property
    def settled_whole(self) -> bool:
        """Whether the last snapshot told all that was finished."""
        return self._told is None

    def told(self, offset: int) -> bool:
        """Whether the last snapshot told all that is finished below ``offset``, and at it."""
        return self._told is None or offset < self._told


def _joined(intervals: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    current: tuple[int, int] | None = None
    for start, end in intervals:
        if current is not None and start <= current[1]:
            current = (current[0], max(end, current[1]))
            continue
        if current is not None:
            yield current
        current = (start, end)
    if current is not None:
        yield current

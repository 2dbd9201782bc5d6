"""The admitted records of one key: a queue for the source and one per level above it.

Invariant: ``running`` of its records, from the head of its top level, are running; a queue above the source is
never empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core.headers import SOURCE

if TYPE_CHECKING:
    from streams.core.headers import Level
    from streams.core.lanes import Lanes
    from streams.core.track import Entry


class Lane:
    """See the module.

    Attributes:
        blocked: Dead letters of the key that are not acknowledged yet.
        finished: When it last finished a record of the source, or what it may have: the snapshots taken before.
        crowds: Whether it is to make room for other keys as soon as nothing of it runs.
        leaving: Records of it that move to another level, and whose move is not acknowledged yet.
    """

    # Nearly every record is read from the source and finishes there, hence a queue that needs no look-up. Queues are
    # lists: nearly all hold one record, and an empty deque takes 600 bytes, of which there may be tens of thousands.
    __slots__ = (
        "above",
        "blocked",
        "crowds",
        "finished",
        "key",
        "lanes",
        "leaving",
        "ready",
        "running",
        "source",
        "timer",
    )

    def __init__(self, lanes: Lanes, key: bytes | None) -> None:
        self.lanes = lanes
        self.key = key
        self.source: list[Entry] = []
        self.above: dict[Level, list[Entry]] | None = None
        self.running = 0
        self.blocked = 0
        self.crowds = False
        self.leaving = 0
        self.finished = lanes.departures.sent
        self.ready = False
        self.timer = 0.0

    @property
    def empty(self) -> bool:
        """Whether nothing is queued."""
        return not (self.source or self.above)

    @property
    def levels(self) -> list[Level]:
        """The levels with something queued, in no order."""
        return [*(self.above or ()), *((SOURCE,) if self.source else ())]

    def queue(self, level: Level) -> list[Entry] | None:
        """What is queued at a level."""
        if level == SOURCE:
            return self.source
        return self.above.get(level) if self.above else None

    def put(self, entry: Entry) -> None:
        """Queue an entry behind those of its level."""
        if entry.level is SOURCE:
            self.source.append(entry)
            return
        if self.above is None:
            self.above = {}
        found = self.above.get(entry.level)
        if found is None:
            found = self.above[entry.level] = []
        found.append(entry)

    def pop(self, entry: Entry) -> None:
        """Take the head of its level out."""
        queue = self.queue(entry.level)
        assert queue, "a lane is left from its head"
        assert queue[0] is entry, "a lane is left from its head"
        del queue[0]
        if not queue and self.above and entry.level in self.above:
            del self.above[entry.level]

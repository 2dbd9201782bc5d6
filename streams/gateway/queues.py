"""Where the queues stand: from Kafka's offsets and commits, and from what the history knows of unfinished jobs.

Invariant: however often it is asked, the broker and the database are asked once per ``FRESH`` seconds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from streams.core import commit_map
from streams.core.headers import dlt_topic, tier_topic
from streams.gateway.figure_views import QueueFigures
from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from streams.job import Group
    from streams.ports import Commits, Committed, LogReader, TopicPartition

    Unfinished = Mapping[tuple[str, str], int]

FRESH = 5.0  # seconds


class Queues:
    """Looks at the queues.

    Args:
        groups: Those of the queues.
        commits: Gives the commits of a group.
        unfinished: Counts the jobs of each queue that are ``processing`` or ``retrying``.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        reader: LogReader,
        commits: Callable[[str], Commits],
        unfinished: Callable[[], Awaitable[Unfinished]],
        clock: Callable[[], float],
    ) -> None:
        self._groups = groups
        self._reader = reader
        self._commits = commits
        self._unfinished = unfinished
        self._clock = clock
        self._lock = asyncio.Lock()
        self._found: list[QueueFigures] = []
        self._until = clock()

    async def figures(self) -> list[QueueFigures]:
        """Each queue as it stands, or stood up to ``FRESH`` seconds ago.

        Raises:
            TransientError: No broker answered.
        """
        async with self._lock:
            if self._clock() >= self._until:
                self._found = await self._looked()
                self._until = self._clock() + FRESH
            return self._found

    async def _looked(self) -> list[QueueFigures]:
        topics = [topic for group in self._groups for topic in _Topics.of(group).all]
        ends, starts, unfinished = await asyncio.gather(
            self._reader.ends(topics), self._reader.starts(topics), self._counted()
        )
        log = {place: (starts.get(place, 0), end) for place, end in ends.items()}
        return await asyncio.gather(*(self._view(group, log, unfinished) for group in self._groups))

    async def _counted(self) -> Unfinished | None:
        try:
            return await self._unfinished()
        except TransientError:
            return None

    async def _view(
        self, group: Group, log: Mapping[TopicPartition, tuple[int, int]], unfinished: Unfinished | None
    ) -> QueueFigures:
        topics = _Topics.of(group)
        mine = {place: bounds for place, bounds in log.items() if place.topic in topics.all}
        committed = await self._commits(group.name).committed(list(mine)) if mine else {}

        def written(*names: str) -> int:
            return sum(end for place, (_, end) in mine.items() if place.topic in names)

        def left(*names: str) -> int:
            found = (_left(bounds, committed.get(place)) for place, bounds in mine.items() if place.topic in names)
            return sum(found)

        def told(status: str) -> int | None:
            return None if unfinished is None else unfinished.get((group.name, status), 0)

        accepted, lag = written(topics.source), left(topics.source)
        return QueueFigures(
            queue=group.name,
            accepted=accepted,
            processed=accepted - lag,
            lag=lag,
            retried=written(*topics.tiers),
            parked=left(topics.replays, *topics.tiers),
            dead=written(topics.dead),
            in_flight=told("processing"),
            failed=told("retrying"),
        )


class _Topics(NamedTuple):
    """The topics of a group."""

    source: str
    replays: str
    tiers: tuple[str, ...]
    dead: str

    @classmethod
    def of(cls, group: Group) -> _Topics:
        replays, *tiers = (tier_topic(group.source, group.name, tier) for tier in range(len(group.tiers) + 1))
        return cls(group.source, replays, tuple(tiers), dlt_topic(group.source, group.name))

    @property
    def all(self) -> tuple[str, ...]:
        return (self.source, self.replays, *self.tiers, self.dead)


def _left(bounds: tuple[int, int], committed: Committed | None) -> int:
    """Records of a partition that no commit calls finished."""
    start, end = bounds
    if committed is None:
        return end - start
    offset = max(start, committed.offset)
    ahead = commit_map.decode(*committed).finished
    done = sum(min(stop, end) - max(first, offset) for first, stop in ahead if first < end and stop > offset)
    return max(0, end - offset - done)

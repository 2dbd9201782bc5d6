"""Compares lag with progress and tells where the group stands.

Invariant: a consumer that read nothing for ``stall_timeout`` seconds although there is something to read is rebuilt.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from streams.core import headers
from streams.core.standing import figures
from streams.core.track import SHELF_SOURCE
from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.core.group import Core
    from streams.engine.family import Family
    from streams.engine.telemetry import Telemetry
    from streams.ports import GroupConsumer, LogReader

log = structlog.get_logger(__name__)

_LOOK = 5.0  # seconds between two looks, at most


class Watched(Protocol):
    """What is watched: ``progress`` is when something was last read, run or written, seconds since the epoch."""

    core: Core
    progress: float

    def rebuild(self, reason: str) -> None:
        """Give up the ownership and take it over again with a new consumer."""


class Watchdog:
    """Watches one engine."""

    def __init__(
        self,
        engine: Watched,
        family: Family,
        consumer: GroupConsumer,
        reader: LogReader,
        telemetry: Telemetry,
        clock: Callable[[], float],
        stall_timeout: float,
    ) -> None:
        self._engine = engine
        self._family = family
        self._consumer = consumer
        self._reader = reader
        self._telemetry = telemetry
        self._clock = clock
        self._stall_timeout = stall_timeout

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(min(_LOOK, self._stall_timeout / 4))
            self._tell()  # also when all partitions went to others: what stood here stands here no more
            if self._engine.core.partitions:
                await self._look()

    async def _look(self) -> None:
        if self._clock() - self._engine.progress < self._stall_timeout:
            return
        try:
            stalled = await self._has_unread()
        except TransientError as error:
            log.warning("cannot compare lag with progress", group=self._family.group, reason=str(error))
            return
        self._engine.progress = self._clock()
        if stalled:
            self._engine.rebuild(f"lag, but nothing was read for {self._stall_timeout:g} s")

    async def _has_unread(self) -> bool:
        ends = await self._reader.ends([self._family.topics[SHELF_SOURCE]])
        return any(
            ends.get(self._family.place(partition, SHELF_SOURCE), 0) > lanes.source.position
            and not lanes.source.paused
            and not lanes.source.pending
            for partition, lanes in self._engine.core.partitions.items()
        )

    def _tell(self) -> None:
        known = self._consumer.ends() if self._engine.core.partitions else {}
        ends = {(place.partition, self._family.shelves[place.topic]): end for place, end in known.items()}
        self._telemetry.lag(self._lag(ends))
        now = self._clock()
        self._telemetry.standing(figures(self._engine.core, ends, now), now)

    def _lag(self, ends: Mapping[tuple[int, int], int]) -> dict[str, int]:
        """Records behind the commit, by topic, as far as the last fetches know."""
        behind = {topic: 0 for shelf, topic in self._family.topics.items() if shelf != headers.DLT}
        for (partition, shelf), end in ends.items():
            lanes, topic = self._engine.core.partitions.get(partition), self._family.topics[shelf]
            if lanes is not None and topic in behind:
                behind[topic] += max(0, end - lanes.tracks[shelf].low_water)
        return behind

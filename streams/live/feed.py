"""The one reader of a process: follows job statuses and events, and tells each subscriber what it wants to know.

    feed = Feed(follower, log_reader, Reading(codec, metrics), topics, metrics)     # ``feed.run()`` is a task
    async with feed.subscribed(Interest(job=job_id)) as found:                      # from here on nothing is missed
        for notice in await found.take(10.0): ...                                   # ``notice.body`` is the ``Status``

It reads while there are subscribers, and ``LINGER`` seconds longer, so that it costs nothing where nobody asks.
Invariant: a subscriber is told each record behind the positions at its beginning once, in order per partition, or is
dropped with the reason.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from streams.job import TransientError
from streams.live import positions
from streams.live.notice import Index
from streams.live.subscription import ROOM, Subscription
from streams.ports import OutOfRangeError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from streams.live.notice import Interest
    from streams.live.reading import Reading
    from streams.metrics import Metrics
    from streams.ports import LogFollower, LogReader, Record

log = structlog.get_logger(__name__)

LINGER = 60.0  # seconds
CUT = "the log was cut where this was being read; load what you show anew"
_PATIENCE = 5.0  # seconds until a reader that does not get going is an error
_AGAIN = 0.5  # seconds between tries while the cluster is away
_LOOK = 30.0  # seconds between looks for topics that do not exist yet


class Feed:
    """See the module.

    Args:
        topics: What is read; those that do not exist yet are read from their start on once they do.
        room: Notices that may wait for one subscriber.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        follower: LogFollower,
        reader: LogReader,
        reading: Reading,
        topics: Collection[str],
        metrics: Metrics,
        *,
        room: int = ROOM,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._follower = follower
        self._reader = reader
        self._reading = reading
        self._topics = set(topics)
        self._metrics = metrics
        self._room = room
        self._monotonic = monotonic
        self._members: Index[Subscription] = Index()
        self._wanted = asyncio.Event()
        self._ready = asyncio.Event()
        self._used = 0.0  # when somebody last wanted something
        self.positions: dict[TopicPartition, int] = {}

    @asynccontextmanager
    async def subscribed(self, interest: Interest) -> AsyncIterator[Subscription]:
        """A subscription to all that happens behind ``positions`` as they are on entering.

        Raises:
            TransientError: The reader does not get going.
        """
        await self._reads()
        member = Subscription(interest, room=self._room)
        self._members.add(interest, member)
        self._counted()
        try:
            yield member
        finally:
            self._members.remove(interest, member)
            self._counted()

    async def run(self) -> None:
        """Read whenever there is somebody to tell; ends only by being cancelled."""
        while True:
            await self._wanted.wait()
            try:
                await self._read()
            except OutOfRangeError as error:
                log.warning("the log was cut; subscribers are dropped", places=str(error))
                self._begin_anew()
            except TransientError as error:
                log.warning("what happens cannot be read for now", reason=str(error))
                await asyncio.sleep(_AGAIN)

    async def _reads(self) -> None:
        self._used = self._monotonic()
        self._wanted.set()
        try:
            async with asyncio.timeout(_PATIENCE):
                while not self._ready.is_set():
                    await self._ready.wait()
        except TimeoutError:
            raise TransientError("what happens cannot be read for now") from None

    def _counted(self) -> None:
        self._used = self._monotonic()
        self._metrics.set("keylane_live_subscribers", len(self._members))

    async def _read(self) -> None:
        await self._find_topics()
        looked = self._monotonic()
        self._ready.set()
        async for records in self._follower.follow(dict(self.positions)):
            await self._tell_all(records)
            if not self._members and self._monotonic() - self._used > LINGER:
                self._rest()
                return
            if self._missing and self._monotonic() - looked > _LOOK:
                return

    async def _find_topics(self) -> None:
        fresh = not self.positions
        for place, end in (await self._reader.ends(sorted(self._missing))).items():
            self.positions[place] = end if fresh else 0
        if not self.positions:
            raise TransientError(f"none of {', '.join(sorted(self._topics))} exists: run `keylane topics apply`")

    @property
    def _missing(self) -> set[str]:
        return self._topics - {place.topic for place in self.positions}

    async def _tell_all(self, records: Sequence[Record]) -> None:
        for record in records:
            notice = await self._reading.notice(record, self._members) if self._members else None
            self.positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
            # In one step with the position: who comes in between two records is told the next one.
            if notice is not None and (found := self._members.find(notice.about)):
                notice.id = positions.encode(self.positions)
                for member in found:
                    member.tell(notice)

    def _begin_anew(self) -> None:
        for member in self._members:
            member.drop(CUT)
        self._ready.clear()
        self.positions = {}

    def _rest(self) -> None:
        self._begin_anew()
        self._wanted.clear()

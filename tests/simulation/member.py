"""The ``GroupConsumer`` port over the in-memory broker: joins, heartbeats, fetches ahead, commits.

It behaves as aiokafka's consumer does: the listener is awaited while heartbeats go on, joining is tried again and
again, a seek or a pause throws away what was fetched, and a commit that is refused makes the member join anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streams.job import TransientError
from streams.ports import Committed, OutOfRangeError, OwnershipLostError, TopicPartition
from tests.simulation.coordinator import HEARTBEAT, UnknownMemberError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from streams.ports import Record
    from tests.simulation.world import World

AGAIN = 0.3  # seconds between two tries
SLACK = 0.1  # seconds by which a poll that finds nothing may be late; looking more often only costs steps


class SimConsumer:
    def __init__(self, world: World, worker: Any) -> None:
        self._world = world
        self._worker = worker
        self._family = world.family
        self._coordinator = world.cluster.coordinator
        self._routine: asyncio.Task[None] | None = None
        self._forget()

    def _forget(self) -> None:
        self.member_id: str | None = None
        self.generation = -1
        self._assigned: tuple[TopicPartition, ...] = ()
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._buffer: dict[TopicPartition, list[Any]] = {}
        self._asked: dict[TopicPartition, int] | None = None  # the fetch under way
        self._lost: OutOfRangeError | None = None  # what the last fetch could not find
        self._waiter: asyncio.Future[None] | None = None
        self._rejoin = asyncio.Event()
        self._wire = self._worker.wire()

    # -- membership ------------------------------------------------------------------------------------------------

    async def start(self, revoked: Callable[[bool], Awaitable[None]], assigned: Callable[[], None]) -> None:
        if self._world.faults.strikes("join-refused", 0.05):
            raise TransientError("no broker can be reached")
        first = asyncio.Event()
        self._routine = asyncio.create_task(self._coordinate(revoked, assigned, first))
        await first.wait()

    async def stop(self) -> None:
        routine, self._routine = self._routine, None
        if routine is not None:
            routine.cancel()
            await asyncio.gather(routine, return_exceptions=True)
        if self.member_id is not None:
            self._wire.tell(lambda member_id=self.member_id: self._coordinator.leave(member_id))
        self._forget()

    async def _coordinate(
        self, revoked: Callable[[bool], Awaitable[None]], assigned: Callable[[], None], first: asyncio.Event
    ) -> None:
        beating: asyncio.Task[None] | None = None
        try:
            while True:
                await revoked(self.member_id is None)
                if beating is not None:
                    beating.cancel()
                await self._join()
                self._rejoin.clear()
                assigned()
                first.set()
                beating = asyncio.create_task(self._beat())
                await self._rejoin.wait()
        finally:
            if beating is not None:
                beating.cancel()

    async def _join(self) -> None:
        while True:
            answer = asyncio.get_running_loop().create_future()
            member_id, instance, reply = self.member_id, self._worker.instance, self._wire.answering(answer)
            self._wire.tell(lambda m=member_id, i=instance, r=reply: self._coordinator.join(m, i, r))
            try:
                async with asyncio.timeout(20.0):
                    self.member_id, self.generation, partitions = await answer
            except TimeoutError:
                self.member_id = None
                continue
            self._assign(partitions)
            return

    def _assign(self, partitions: Sequence[int]) -> None:
        topics = self._family.topics.values()
        self._assigned = tuple(TopicPartition(topic, p) for topic in topics for p in partitions)
        self._buffer, self._paused, self._asked = {}, set(), None
        # The client begins to fetch from what was committed before anybody tells it where to read on.
        commits, shelves = self._world.cluster.broker.commits, self._family.shelves
        self._positions = {tp: commits.get((tp.partition, shelves[tp.topic]), (0, ""))[0] for tp in self._assigned}

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT * self._world.random.uniform(0.4, 1.0))
            try:
                steady = await self._wire.ask(
                    "heartbeat", lambda: self._coordinator.heartbeat(self.member_id or "", self.generation)
                )
            except TransientError:
                continue
            except UnknownMemberError:
                self.member_id = None
                self._rejoin.set()
                return
            if not steady:
                self._rejoin.set()

    def assignment(self) -> frozenset[TopicPartition]:
        self._check_member()
        return frozenset(self._assigned)

    def _check_member(self) -> None:
        if self._routine is None:
            raise OwnershipLostError("not a member")

    # -- fetching --------------------------------------------------------------------------------------------------

    async def poll(
        self, wait: float, among: Collection[TopicPartition] | None = None
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        self._check_member()
        self._fetch()
        if self._lost is not None and any(self._positions.get(tp) == at for tp, at in self._lost.positions.items()):
            lost, self._lost = self._lost, None
            raise lost
        if not (found := self._take(among)):
            await self._wait(max(wait, SLACK))
            found = self._take(among)
        return found

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fetch(self) -> None:
        """Ask for what is not asked for; a request that waits for records is given up for one that asks for more."""
        wanted = {
            place: self._positions[place]
            for place in self._assigned
            if place in self._positions and place not in self._paused and place not in self._buffer
        }
        if wanted and (self._asked is None or not wanted.items() <= self._asked.items()):
            self._asked = wanted
            self._world.cluster.fetch(self._wire, wanted, lambda found: self._fetched(wanted, found))

    def _fetched(
        self, wanted: dict[TopicPartition, int], found: Mapping[TopicPartition, list[Any]] | OutOfRangeError
    ) -> None:
        if wanted is not self._asked:
            return
        self._asked = None
        if isinstance(found, OutOfRangeError):
            self._lost = found
            self._wake()
            return
        for place, records in found.items():
            if self._positions.get(place) == wanted[place] and place not in self._paused:
                self._buffer[place] = records
        self._wake()

    def _take(self, among: Collection[TopicPartition] | None) -> dict[TopicPartition, list[Any]]:
        found: dict[TopicPartition, list[Any]] = {}
        for place in list(self._buffer):
            if among is not None and place not in among:
                continue
            records = self._buffer.pop(place)
            most = self._world.random.choice([1, 3, 100])
            found[place] = records[:most]
            again = records if self._world.faults.strikes("delivered-twice", 0.02) else records[most:]
            if again:
                self._buffer[place] = again
            self._positions[place] = found[place][-1].offset + 1
        return found

    def ends(self) -> dict[TopicPartition, int]:
        return {
            place: self._world.cluster.broker.ends[place.partition, self._family.shelves[place.topic]]
            for place in self._assigned
        }

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition] = offset
        self._buffer.pop(partition, None)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        for place in partitions:
            self._paused.add(place)
            if dropped := self._buffer.pop(place, None):
                self._positions[place] = dropped[0].offset

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._paused.difference_update(partitions)

    # -- committing ------------------------------------------------------------------------------------------------

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        self._check_member()
        return await self._wire.ask("committed", lambda: self._look_up(partitions))

    def _look_up(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        commits, shelves = self._world.cluster.broker.commits, self._family.shelves
        places = {place: (place.partition, shelves[place.topic]) for place in partitions}
        return {place: Committed(*commits[at]) for place, at in places.items() if at in commits}

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        self._check_member()
        member_id, generation, owner = self.member_id or "", self.generation, self._worker.ownership
        named = {(place.partition, self._family.shelves[place.topic]): tuple(at) for place, at in offsets.items()}
        try:
            await self._wire.ask("commit", lambda: self._world.cluster.commit(owner, member_id, generation, named))
        except OwnershipLostError:
            self._rejoin.set()
            raise

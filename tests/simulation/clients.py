"""The ports the engine needs, over the in-memory broker: batch writer, log reader, publisher."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streams.job import TransientError
from streams.ports import Position, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence

    from streams.ports import Message, Record
    from tests.simulation.network import Wire
    from tests.simulation.world import World


class SimWriter:
    """The ``BatchWriter`` port; ``wire`` is the connection, a new one after each missing acknowledgement."""

    def __init__(self, world: World, worker: Any) -> None:
        self._world = world
        self._worker = worker
        self._wire = worker.wire()
        self._spent = False

    async def renew(self) -> None:
        if self._world.faults.strikes("renew-refused", 0.1):
            raise TransientError("no broker can be reached")
        self._wire, self._spent = self._worker.wire(), False

    async def write(self, target: TopicPartition, messages: Sequence[Message]) -> list[int]:
        if self._spent:
            raise TransientError("this writer is spent")
        batch = messages[: self._world.random.choice([1, 3, 100])]
        # The connections of a producer's brokers are independent: batches of two targets overtake each other.
        wire = self._worker.wire() if self._world.random.random() < 0.5 else self._wire
        try:
            return await wire.ask("write", lambda: self._world.cluster.write(self._worker.name, target, batch))
        except TransientError:
            self._spent = True
            raise


class SimReader:
    """The ``LogReader`` port."""

    def __init__(self, world: World, wire: Wire) -> None:
        self._world = world
        self._wire = wire

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Record]]:
        for place, limit in end.items():
            position = start.get(place, 0)
            while position < limit:
                records = await self._wire.ask("read", lambda: self._read(place, position))  # noqa: B023 - awaited here
                wanted = [record for record in records if record.offset < limit]
                if wanted:
                    yield wanted
                position = records[-1].offset + 1 if records else limit

    def _read(self, place: TopicPartition, position: int) -> list[Any]:
        most = self._world.random.choice([1, 5, 1_000])
        return self._world.cluster.broker.read(place.partition, self._world.family.shelves[place.topic], position, most)

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return await self._wire.ask("ends", lambda: self._bounds(self._world.cluster.broker.ends, topics))

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return await self._wire.ask("starts", lambda: self._bounds(self._world.cluster.broker.starts, topics))

    def _bounds(self, bounds: Mapping[tuple[int, int], int], topics: Sequence[str]) -> dict[TopicPartition, int]:
        named = self._world.family.topics
        return {TopicPartition(named[s], p): at for (p, s), at in bounds.items() if named[s] in topics}


class SimPublisher:
    """The ``Publisher`` port, for what is told about the work."""

    def __init__(self, world: World, wire: Wire) -> None:
        self._world = world
        self._wire = wire

    async def publish(self, message: Message) -> Position:
        await self.publish_all([message])
        return Position(message.topic, 0, 0)

    async def send(self, message: Message) -> Awaitable[Position]:
        return asyncio.ensure_future(self.publish(message))

    async def publish_all(self, messages: Sequence[Message]) -> None:
        await self._wire.ask("publish", lambda: self._world.promises.told(messages))

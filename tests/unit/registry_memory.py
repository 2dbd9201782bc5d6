"""The schema log in memory, for tests of the registry that need no broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from streams.gateway.registry_log import SCHEMAS_TOPIC, RegistryLog
from streams.gateway.registry_store import RegistryStore
from streams.job import TransientError
from streams.ports import Message, Position, RecordRefusedError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence

AT = TopicPartition(SCHEMAS_TOPIC, 0)


class MemoryLog:
    """Publisher and log reader of one partition; every call lets other tasks go first, so that writers race."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.end = 0  # compaction may take the last records; their offsets are never used again
        self.partitions = 1
        self.away = False
        self.looks = 0
        self.largest = 1_000_000

    async def publish(self, message: Message) -> Position:
        await self._pass()
        if len(message.value or b"") > self.largest:
            raise RecordRefusedError("the record is too large for the topic")
        offset, self.end = self.end, self.end + 1
        self.records.append(SimpleNamespace(offset=offset, key=message.key, value=message.value))
        await self._pass()
        return Position(message.topic, 0, offset)

    async def send(self, _: Message) -> Awaitable[Position]:
        raise NotImplementedError

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Any]]:
        await self._pass()
        wanted = [record for record in self.records if start[AT] <= record.offset < end[AT]]
        for begin in range(0, len(wanted), 3):
            yield wanted[begin : begin + 3]
            await self._pass()

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        self.looks += 1
        await self._pass()
        return {TopicPartition(topics[0], number): self.end for number in range(self.partitions)}

    async def starts(self, _: Sequence[str]) -> dict[TopicPartition, int]:
        raise NotImplementedError

    def compact(self, up_to: int) -> None:
        """Keep of the records before the offset what a log cleaner would, with all tombstones already gone."""
        last = {record.key: record.offset for record in self.records if record.offset < up_to}
        self.records = [
            record
            for record in self.records
            if record.offset >= up_to or (last[record.key] == record.offset and record.value is not None)
        ]

    async def _pass(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise TransientError("no broker")


def opened(log: MemoryLog) -> RegistryStore:
    """A registry over the log, as one gateway process has it."""
    return RegistryStore(RegistryLog(log, log))


async def anyone(_request: object) -> None:
    """Let every request change the registry."""

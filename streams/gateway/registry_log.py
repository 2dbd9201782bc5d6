"""The registry's state as far as the ``_schemas`` log goes, and the way to append to it.

Invariant: ``state`` is the fold of the log up to ``_next``; it only moves forward, by one reader at a time.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from schemas.errors import RegistryUnavailableError
from streams.gateway.registry_problems import invalid_schema
from streams.gateway.registry_state import RegistryState
from streams.job import TransientError
from streams.ports import Message, RecordRefusedError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.ports import LogReader, Publisher, Record

SCHEMAS_TOPIC = "_schemas"
_IDLE = 3600.0  # seconds; well below any delete.retention.ms
_log = structlog.get_logger(__name__)


class RegistryLog:
    """Follows one partition; several processes may append to it at the same time.

    Args:
        publisher: Writes with ``acks=all``.
        reader: Reads bounded stretches.
        topic: One partition, compacted.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        publisher: Publisher,
        reader: LogReader,
        *,
        topic: str = SCHEMAS_TOPIC,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = RegistryState()
        self._publisher = publisher
        self._reader = reader
        self._topic = topic
        self._at = TopicPartition(topic, 0)
        self._next = 0
        self._clock = clock
        self._seen = clock()
        self._reading = asyncio.Lock()
        self._refreshing = asyncio.Lock()
        self._begun = self._done = 0  # refreshes, counted

    async def refresh(self) -> None:
        """Read on to what is now the end of the log; who asks at the same time shares one look.

        Raises:
            RegistryUnavailableError: The log cannot be read, is missing or has more than one partition.
        """
        asked = self._begun
        async with self._refreshing:
            if self._done > asked:  # begun and done since: it saw all that was there when we asked
                return
            self._begun += 1
            await self._refresh()
            self._done = self._begun

    async def _refresh(self) -> None:
        try:
            ends = await self._reader.ends([self._topic])
            if ends.keys() != {self._at}:
                found = f"has {len(ends)} partitions instead of one" if ends else "does not exist"
                raise RegistryUnavailableError(f"topic {self._topic} {found}: run 'keylane topics apply'")
            now = self._clock()
            # Compaction drops tombstones after a day: who was idle for long may have missed some.
            await self._read_to(ends[self._at], anew=now - self._seen > _IDLE)
            self._seen = now
        except TransientError as error:
            raise RegistryUnavailableError(f"the schema log cannot be read: {error}") from error

    async def append(self, key: bytes, value: bytes | None) -> None:
        """Write a record and read up to it, so that ``state`` knows what became of it.

        Raises:
            RegistryUnavailableError: It was not acknowledged, or cannot be read back; it may or may not be stored.
            RefusedError: It is too large for the topic (42201).
        """
        try:
            position = await self._publisher.publish(Message(self._topic, key, value, (), 0))
            await self._read_to(position.offset + 1)
        except RecordRefusedError as error:
            raise invalid_schema(str(error)) from error
        except TransientError as error:
            raise RegistryUnavailableError(f"the schema log does not take records: {error}") from error

    async def _read_to(self, end: int, *, anew: bool = False) -> None:
        async with self._reading:
            end = max(end, self._next)
            state, start = (RegistryState(), 0) if anew else (self.state, self._next)
            async for batch in self._reader.read({self._at: start}, {self._at: end}):
                for record in batch:
                    self._apply(state, record)
                if not anew:
                    self._next = batch[-1].offset + 1  # whoever goes on after an interruption goes on here
            self.state, self._next = state, end

    def _apply(self, state: RegistryState, record: Record) -> None:
        try:
            state.apply(record.key, record.value)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # Passed over by every process alike; the schemas around it stay readable.
            _log.warning("unreadable schema record", topic=self._topic, offset=record.offset, error=str(error))

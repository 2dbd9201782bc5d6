"""Writes whole record batches through an idempotent aiokafka producer of its own.

Invariant: one batch under way per partition, stored entirely or not at all, in the order given; after a missing
acknowledgement the writer is spent, since nobody can know whether the batch arrives later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from streams.adapters.kafka import producers
from streams.job import TransientError
from streams.ports import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import AIOKafkaProducer
    from aiokafka.structs import RecordMetadata

    from streams.ports import Message, TopicPartition

_ENDING = 1.0  # seconds
_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError)


class KafkaBatchWriter:
    """The ``BatchWriter`` port.

    Args:
        options: As from ``client_options``.
    """

    def __init__(self, options: Mapping[str, Any], *, timeout: float = 15.0) -> None:
        self._options = dict(options)
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            TransientError: No broker can be reached.
        """
        try:
            self._producer = await producers.connected(self._options, request_timeout_ms=int(self._timeout * 1000))
        except KafkaError as error:
            raise TransientError(f"cannot reach the broker: {error}") from error

    async def stop(self) -> None:
        """Disconnect; batches under way are given a moment to end."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producers.close(producer, _ENDING)

    async def renew(self) -> None:
        """Replace a spent producer by a new one, whose sequence numbers have no gap."""
        await self.stop()
        await self.start()

    async def write(self, target: TopicPartition, messages: Sequence[Message]) -> list[int]:
        """Store as many of the messages, from the first on, as one batch takes; their offsets."""
        if self._producer is None:
            raise TransientError("the batch writer is not connected")
        batch = self._producer.create_batch()
        count = 0
        for message in messages:
            added = batch.append(key=message.key, value=message.value, timestamp=None, headers=list(message.headers))
            if added is None:
                break
            count += 1
        batch.close()
        try:
            # aiokafka's idempotent producer never gives a batch up by itself.
            async with asyncio.timeout(self._timeout):
                acknowledged = await self._producer.send_batch(batch, target.topic, partition=target.partition)
                stored: RecordMetadata = await acknowledged
        except _REFUSALS as error:
            raise RecordRefusedError(f"{target.topic}: {error}") from error
        except (KafkaError, TimeoutError) as error:
            raise TransientError(f"{target.topic}/{target.partition}: no acknowledgement: {error!r}") from error
        return [stored.offset + n for n in range(count)]

"""Writes whole record batches through an idempotent aiokafka producer of its own.

Invariant: one batch under way per partition, stored entirely or not at all, in the order given; after a missing
acknowledgement the writer is spent, since nobody can know whether the batch arrives later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from streams.job import TransientError
from streams.ports import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.structs import RecordMetadata

    from streams.ports import Message, TopicPartition

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
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            request_timeout_ms=int(self._timeout * 1000),
        )
        try:
            await producer.start()
        except KafkaError as error:
            await producer.stop()
            raise TransientError(f"cannot reach the broker: {error}") from error
        self._producer = producer

    async def stop(self) -> None:
        """Disconnect; batches under way are given the time-out to end."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

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
            stored: RecordMetadata = await (
                await self._producer.send_batch(batch, target.topic, partition=target.partition)
            )
        except _REFUSALS as error:
            raise RecordRefusedError(f"{target.topic}: {error}") from error
        except KafkaError as error:
            raise TransientError(f"{target.topic}/{target.partition}: no acknowledgement: {error}") from error
        return [stored.offset + n for n in range(count)]

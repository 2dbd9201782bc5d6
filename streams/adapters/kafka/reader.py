"""Reads bounded stretches of partitions without a consumer group.

    reader = KafkaLogReader(client_options(settings))
    ends = await reader.ends(["events.reservation"])
    async for records in reader.read(await reader.starts(["events.reservation"]), ends): ...

Invariant: a read ends when every partition's position has reached its end, whatever lies before it: transaction
markers, records that were compacted away or fell out of retention.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.adapters.kafka import consumers
from streams.job import TransientError
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streams.ports import Record

_PATIENCE = 10_000  # milliseconds until a request without an answer is given up: partitions may wait for it
_LARGEST = 16_777_216  # bytes of one answer: what a slow network brings within the patience
_POLL = 200  # milliseconds
_BACKOFF = 10  # milliseconds; a fresh client always waits once, for the leaders of its partitions


class KafkaLogReader:
    """The ``LogReader`` port; each call has its own connection, so calls may run side by side.

    Args:
        options: As from ``client_options``.
        patience: Seconds without a record or a step forward until a read gives up.
        max_records: At most so many records per batch.
    """

    def __init__(self, options: Mapping[str, Any], *, patience: float = 30.0, max_records: int = 1_000) -> None:
        self._options = options
        self._patience = patience
        self._max_records = max_records

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Record]]:
        """Yield batches of records with offsets in ``[start, end)``, in offset order within each partition.

        A partition is read from ``start`` (0 where it is missing) if ``end`` names it.

        Raises:
            TransientError: A broker is away, or nothing came forward for ``patience`` seconds.
        """
        left = {_native(tp): limit for tp, limit in end.items() if start.get(tp, 0) < limit}
        if not left:
            return
        async with self._consumer() as consumer:
            consumer.assign(list(left))
            for tp in left:
                consumer.seek(tp, start.get(TopicPartition(tp.topic, tp.partition), 0))
            async for records in self._until(consumer, left):
                yield records

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """The end offsets of all partitions of the topics that exist; an open transaction's records lie beyond.

        Raises:
            TransientError: A broker is away.
        """
        async with self._consumer() as consumer:
            found = await consumer.end_offsets(await self._partitions(topics))
        return {_ported(tp): offset for tp, offset in found.items()}

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """The log start offsets of all partitions of the topics that exist.

        Raises:
            TransientError: A broker is away.
        """
        async with self._consumer() as consumer:
            found = await consumer.beginning_offsets(await self._partitions(topics))
        return {_ported(tp): offset for tp, offset in found.items()}

    async def _until(
        self, consumer: AIOKafkaConsumer, left: dict[aiokafka.TopicPartition, int]
    ) -> AsyncIterator[list[Record]]:
        idle = 0
        while left:
            before = {tp: await consumer.position(tp) for tp in left}
            fetched = await consumer.getmany(timeout_ms=_POLL, max_records=self._max_records)
            for tp, records in fetched.items():
                wanted = [record for record in records if record.offset < left[tp]]
                if wanted:
                    yield wanted
            after = {tp: await consumer.position(tp) for tp in left}
            idle = 0 if after != before else idle + _POLL
            if idle > self._patience * 1000:
                raise TransientError(f"nothing could be read from {', '.join(sorted({tp.topic for tp in left}))}")
            _drop_finished(consumer, left, after)

    async def _partitions(self, topics: Sequence[str]) -> list[aiokafka.TopicPartition]:
        admin = AIOKafkaAdminClient(**self._options, request_timeout_ms=_PATIENCE)
        try:
            await admin.start()
            # All topics, then ours: asking for a missing one by name may create it on a broker that allows it.
            described = await admin.describe_topics()
        finally:
            await admin.close()
        return [
            aiokafka.TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            if topic["topic"] in topics
            for partition in topic["partitions"]
        ]

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            retry_backoff_ms=_BACKOFF,
            request_timeout_ms=_PATIENCE,
            fetch_max_bytes=_LARGEST,
        )
        try:
            await consumer.start()
            yield consumer
        except KafkaError as error:
            raise TransientError(f"Kafka cannot be read: {type(error).__name__}: {error}") from error
        finally:
            await consumers.close(consumer)


def _drop_finished(
    consumer: AIOKafkaConsumer,
    left: dict[aiokafka.TopicPartition, int],
    positions: Mapping[aiokafka.TopicPartition, int],
) -> None:
    finished = [tp for tp in left if positions[tp] >= left[tp]]
    consumer.pause(*finished)
    for tp in finished:
        del left[tp]


def _native(tp: TopicPartition) -> aiokafka.TopicPartition:
    return aiokafka.TopicPartition(tp.topic, tp.partition)


def _ported(tp: aiokafka.TopicPartition) -> TopicPartition:
    return TopicPartition(tp.topic, tp.partition)

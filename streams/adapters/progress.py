"""How far a consumer group has come with a topic: the ``Progress`` port on connections that are kept.

Invariant: the partition of a key is the one aiokafka's (and Java's) default partitioner chooses.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from streams.job import TransientError
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TIMEOUT = 2_000  # milliseconds


class KafkaProgress:
    """The ``Progress`` port.

    Args:
        options: As from ``client_options``.
        topic: Its number of partitions never changes.
    """

    def __init__(self, options: Mapping[str, Any], *, group: str, topic: str) -> None:
        self._options = {**options, "request_timeout_ms": _TIMEOUT}
        self._group = group
        self._topic = topic
        self._partition_of = DefaultPartitioner()
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: Sequence[int] = ()
        self._connecting = asyncio.Lock()

    async def end(self, key: bytes) -> tuple[TopicPartition, int]:
        """The partition of the key, and its end as of now.

        Raises:
            TransientError: The broker did not answer, or the topic does not exist.
        """
        with self._away():
            _, consumer = await self._connected()
            place = TopicPartition(self._topic, self._partition_of(key, self._partitions, self._partitions))
            native = aiokafka.TopicPartition(*place)
            return place, (await consumer.end_offsets([native]))[native]

    async def reached(self, partition: TopicPartition, offset: int) -> bool:
        """Whether the group has committed the offset; nothing needs a commit where the log is empty.

        Raises:
            TransientError: The broker did not answer.
        """
        if offset == 0:
            return True
        native = aiokafka.TopicPartition(*partition)
        with self._away():
            admin, _ = await self._connected()
            found = await admin.list_consumer_group_offsets(self._group, partitions=[native])
        return native in found and int(found[native].offset) >= offset

    async def ping(self) -> None:
        """Ask the broker for a sign of life.

        Raises:
            TransientError: It gave none.
        """
        await self.end(b"")

    async def stop(self) -> None:
        """Disconnect."""
        admin, consumer, self._admin, self._consumer = self._admin, self._consumer, None, None
        if consumer is not None:
            await consumer.stop()
        if admin is not None:
            await admin.close()

    async def _connected(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        async with self._connecting:
            if self._admin is None or self._consumer is None:
                await self.stop()
                await self._connect()
            return self._admin, self._consumer

    async def _connect(self) -> None:
        admin, consumer = AIOKafkaAdminClient(**self._options), AIOKafkaConsumer(**self._options)
        try:
            await admin.start()
            await consumer.start()
            self._partitions = _partitions(await admin.describe_topics(), self._topic)
        except BaseException:
            await consumer.stop()
            await admin.close()
            raise
        self._admin, self._consumer = admin, consumer

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise TransientError(f"Kafka does not tell how far {self._group} is: {type(error).__name__}") from error


def _partitions(described: Sequence[Mapping[str, Any]], topic: str) -> list[int]:
    found = [sorted(each["partition"] for each in one["partitions"]) for one in described if one["topic"] == topic]
    if not found or not found[0]:
        raise TransientError(f"the topic {topic} does not exist: run `keylane topics apply`")
    return found[0]

"""How far a consumer group has come with a topic: the ``Progress`` port on connections that are kept."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

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
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: Sequence[aiokafka.TopicPartition] = ()
        self._connecting = asyncio.Lock()

    async def ends(self) -> dict[TopicPartition, int]:
        """Where the topic's partitions end now.

        Raises:
            TransientError: The broker did not answer, or the topic does not exist.
        """
        with self._away():
            _, consumer = await self._connected()
            found = await consumer.end_offsets(self._partitions)
        return {TopicPartition(*native): end for native, end in found.items()}

    async def reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether the group has committed these offsets; nothing needs a commit where the log is empty.

        Raises:
            TransientError: The broker did not answer.
        """
        written = {aiokafka.TopicPartition(*place): end for place, end in ends.items() if end}
        with self._away():
            admin, _ = await self._connected()
            found = await admin.list_consumer_group_offsets(self._group, partitions=list(written))
        return all(native in found and int(found[native].offset) >= end for native, end in written.items())

    async def ping(self) -> None:
        """Ask the broker for a sign of life.

        Raises:
            TransientError: It gave none.
        """
        await self.ends()

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


def _partitions(described: Sequence[Mapping[str, Any]], topic: str) -> list[aiokafka.TopicPartition]:
    found = [sorted(each["partition"] for each in one["partitions"]) for one in described if one["topic"] == topic]
    if not found or not found[0]:
        raise TransientError(f"the topic {topic} does not exist: run `keylane topics apply`")
    return [aiokafka.TopicPartition(topic, partition) for partition in found[0]]

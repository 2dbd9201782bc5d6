"""Sends many records of mixed keys through an aiokafka producer as whole batches, one future per batch.

Invariant: the records of a partition leave in the order given; a key's partition is the one ``producer.send`` chooses.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiokafka.partitioner import DefaultPartitioner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiokafka import AIOKafkaProducer

    from streams.ports import Message

_partition = DefaultPartitioner()


async def send_all(producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
    """Return when all are acknowledged.

    Raises:
        KafkaError: One batch was not, or was refused; the others may be stored.
    """
    found = await targets(producer, messages)
    ends = await asyncio.gather(
        *(_send(producer, target, [messages[number] for number in numbers]) for target, numbers in found.items()),
        return_exceptions=True,
    )
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def targets(producer: AIOKafkaProducer, messages: Sequence[Message]) -> dict[tuple[str, int], list[int]]:
    """The numbers of the messages that go to each topic and partition, in order.

    Raises:
        KafkaError: A topic is not known.
    """
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    partitions: dict[str, list[int]] = {}
    for number, message in enumerate(messages):
        topic = message.topic
        known = partitions.get(topic)
        if known is None:
            known = partitions[topic] = sorted(await producer.partitions_for(topic))
        partition = _partition(message.key, known, known) if message.partition is None else message.partition
        found[topic, partition].append(number)
    return found


async def batches(
    producer: AIOKafkaProducer, target: tuple[str, int], messages: Sequence[Message]
) -> AsyncIterator[tuple[range, asyncio.Future[Any]]]:
    """Queue the messages of one partition as batches; of each the numbers of its messages, and its acknowledgement.

    Raises:
        KafkaError: A batch could not be queued.
    """
    topic, partition = target
    first, batch = 0, producer.create_batch()
    for number, message in enumerate(messages):
        if not _added(batch, message):
            yield range(first, number), await producer.send_batch(batch, topic, partition=partition)
            first, batch = number, producer.create_batch()
            _added(batch, message)  # the first one always fits
    yield range(first, len(messages)), await producer.send_batch(batch, topic, partition=partition)


async def _send(producer: AIOKafkaProducer, target: tuple[str, int], messages: Sequence[Message]) -> None:
    await asyncio.gather(*[stored async for _, stored in batches(producer, target, messages)])


def _added(batch: Any, message: Message) -> bool:
    added = batch.append(key=message.key, value=message.value, timestamp=None, headers=list(message.headers))
    return added is not None

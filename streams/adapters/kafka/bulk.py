"""Sends many records of mixed keys through an aiokafka producer as whole batches, one future per batch.

Invariant: the records of a partition leave in the order given; a key's partition is the one ``producer.send`` chooses.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiokafka.partitioner import DefaultPartitioner

from streams.ports import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

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


async def send_each(
    producer: AIOKafkaProducer,
    target: tuple[str, int],
    messages: Sequence[Message],
    ends: Sequence[asyncio.Future[Position]],
) -> None:
    """Write the records of one partition; each of ``ends`` is given the position of its message.

    Raises:
        KafkaError: A batch was not acknowledged, or was refused; ``ends`` that are not done belong to it or follow it.
    """
    number = 0
    for stored, count in await _queued(producer, target, messages):
        offset = (await stored).offset
        for place, end in enumerate(ends[number : number + count]):
            if not end.done():
                end.set_result(Position(*target, offset + place))
        number += count


async def _send(producer: AIOKafkaProducer, target: tuple[str, int], messages: Sequence[Message]) -> None:
    await asyncio.gather(*(stored for stored, _ in await _queued(producer, target, messages)))


async def _queued(
    producer: AIOKafkaProducer, target: tuple[str, int], messages: Sequence[Message]
) -> list[tuple[asyncio.Future[Any], int]]:
    """The batches the messages make, each with the number of its records."""
    topic, partition = target
    under_way: list[tuple[asyncio.Future[Any], int]] = []
    batch = producer.create_batch()
    for message in messages:
        if not _added(batch, message):
            count = batch.record_count()
            under_way.append((await producer.send_batch(batch, topic, partition=partition), count))
            batch = producer.create_batch()
            _added(batch, message)  # the first one always fits
    count = batch.record_count()
    under_way.append((await producer.send_batch(batch, topic, partition=partition), count))
    return under_way


def _added(batch: Any, message: Message) -> bool:
    added = batch.append(key=message.key, value=message.value, timestamp=None, headers=list(message.headers))
    return added is not None

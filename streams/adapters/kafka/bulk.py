"""Sends many records of mixed keys through an aiokafka producer as whole batches, one future per batch.

Invariant: the records of a partition leave in the order given; a key's partition is the one ``producer.send`` chooses.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiokafka.partitioner import DefaultPartitioner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiokafka import AIOKafkaProducer

    from streams.ports import Message

_partition = DefaultPartitioner()


async def send_all(producer: AIOKafkaProducer, messages: Iterable[Message]) -> None:
    """Return when all are acknowledged.

    Raises:
        KafkaError: One batch was not, or was refused; the others may be stored.
    """
    targets: dict[tuple[str, int], list[Message]] = defaultdict(list)
    partitions: dict[str, list[int]] = {}
    for message in messages:
        topic = message.topic
        known = partitions.get(topic)
        if known is None:
            known = partitions[topic] = sorted(await producer.partitions_for(topic))
        number = message.partition
        targets[topic, _partition(message.key, known, known) if number is None else number].append(message)
    ends = await asyncio.gather(
        *(_send(producer, target, found) for target, found in targets.items()), return_exceptions=True
    )
    for end in ends:
        if end is not None:
            raise end


async def _send(producer: AIOKafkaProducer, target: tuple[str, int], messages: Sequence[Message]) -> None:
    topic, partition = target
    under_way: list[asyncio.Future[Any]] = []
    batch = producer.create_batch()
    for message in messages:
        if not _added(batch, message):
            under_way.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            _added(batch, message)  # the first one always fits
    under_way.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*under_way)


def _added(batch: Any, message: Message) -> bool:
    added = batch.append(key=message.key, value=message.value, timestamp=None, headers=list(message.headers))
    return added is not None

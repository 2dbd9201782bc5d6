"""Makes millions of records cheaply: a backlog out of a few batches written again and again, and outstanding retries.

Invariant: retries are what keylane itself writes when it moves a record, and their places at the source are committed.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.core import headers
from streams.core.headers import SOURCE, Level, Place, format_level, format_place, tier_topic
from tests.bench.fill import partition_of, value
from tests.bench.records import key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PARTITIONS = 8
_BATCH = 3_000  # records of about 200 bytes, below the broker's limit for a batch before it is compressed
_UNDER_WAY = 16  # batches
_KEYS = 100_000
_TIER = 3
_AFTER = 3_600_000  # milliseconds until the retries are due


def backlog(servers: str, topic: str, count: int) -> None:
    """About so many records, of the same 3,000 keys and sequences in each partition over and over."""
    uvloop.run(_backlog(servers, topic, count))


async def _backlog(servers: str, topic: str, count: int) -> None:
    async with _producer(servers) as producer:
        batches = {place: _batch(producer, place) for place in range(PARTITIONS)}
        under_way: set[asyncio.Future[Any]] = set()
        for number in range(max(PARTITIONS, count // _BATCH)):
            place = number % PARTITIONS
            under_way = await _sent(producer, batches[place], topic, place, under_way)
        await asyncio.gather(*under_way)


def _batch(producer: AIOKafkaProducer, place: int) -> Any:
    batch = producer.create_batch()
    numbers = _numbers(place)
    for _ in range(_BATCH):
        number = next(numbers)
        batch.append(key=key(number), value=value(number, 0), timestamp=_now())
    return batch


def _numbers(place: int) -> Iterator[int]:
    """The numbers of the keys of a partition."""
    return (number for number in range(_KEYS) if partition_of(number, PARTITIONS) == place)


def retries(servers: str, source: str, group: str, count: int) -> None:
    """So many records outstanding in the group's last tier, due in an hour, and committed at the source."""
    backlog(servers, source, count + _BATCH * PARTITIONS)
    shares = [(servers, source, group, count // PARTITIONS, range(n, PARTITIONS, 2)) for n in range(2)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_retries, shares))
    asyncio.run(_commit_all(servers, source, group))


def _retries(share: tuple[str, str, str, int, Sequence[int]]) -> None:
    uvloop.run(_write_retries(*share))


async def _write_retries(servers: str, source: str, group: str, each: int, places: Sequence[int]) -> None:
    topic = tier_topic(source, group, _TIER)
    async with _producer(servers) as producer:
        for place in places:
            under_way: set[asyncio.Future[Any]] = set()
            batch, numbers = producer.create_batch(), list(_numbers(place))
            for offset in range(each):
                record = _retry(source, place, offset, numbers[offset % len(numbers)])
                if batch.append(**record) is None:
                    under_way = await _sent(producer, batch, topic, place, under_way)
                    batch = producer.create_batch()
                    batch.append(**record)
            await asyncio.gather(*await _sent(producer, batch, topic, place, under_way))


def _retry(source: str, place: int, offset: int, number: int) -> dict[str, Any]:
    now = _now()
    way = {
        headers.ORIGIN_TOPIC: source,
        headers.ORIGIN_PARTITION: str(place),
        headers.ORIGIN_OFFSET: str(offset),
        headers.ORIGIN_TIMESTAMP: str(now),
        headers.LEVEL: format_level(Level(0, 0, _TIER)),
        headers.FROM: format_place(Place(SOURCE, offset)),
        headers.MOVER: "0123456789abcdef",
        headers.DUE: str(now + _AFTER),
        headers.ATTEMPTS: str(_TIER),
        headers.FIRST_FAILURE: str(now),
    }
    found = [(name, text.encode()) for name, text in way.items()]
    return {"key": key(number), "value": value(number, offset), "timestamp": now, "headers": found}


async def _commit_all(servers: str, source: str, group: str) -> None:
    async with AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False) as consumer:
        places = [TopicPartition(source, place) for place in range(PARTITIONS)]
        consumer.assign(places)
        await consumer.commit(await consumer.end_offsets(places))


def publish_one(servers: str, topic: str) -> None:
    """One more record, of a key that has none yet."""
    asyncio.run(_publish_one(servers, topic))


async def _publish_one(servers: str, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait(topic, value(_KEYS, 0), key(_KEYS), partition_of(_KEYS, PARTITIONS))


def _producer(servers: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=servers, compression_type="lz4", max_batch_size=900_000)


async def _sent(
    producer: AIOKafkaProducer, batch: Any, topic: str, place: int, under_way: set[asyncio.Future[Any]]
) -> set[asyncio.Future[Any]]:
    under_way.add(await producer.send_batch(batch, topic, partition=place))
    if len(under_way) >= _UNDER_WAY:
        done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
    return under_way


def _now() -> int:
    return int(time.time() * 1000)

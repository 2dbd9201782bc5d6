"""``python -m tests.bench.restore``: take over partitions with a million outstanding retries; time, CPU and memory."""

from __future__ import annotations

import argparse
import asyncio
import resource
import time
import uuid
from typing import TYPE_CHECKING

import uvloop
from aiokafka import AIOKafkaProducer

from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.reader import KafkaLogReader
from streams.core import headers
from streams.core.group import Core, Limits
from streams.core.headers import tier_topic
from streams.engine.family import Family
from streams.engine.takeover import read_in_portions
from streams.job import Group
from tests.bench.broker import family_topics, make_topics, servers
from tests.bench.fill import headers_of, key, value

if TYPE_CHECKING:
    from streams.settings import Settings

_PARTITIONS = 8
_TIERS = (60.0,)


def _group(count: int) -> Group:
    name = f"restore-{uuid.uuid4().hex[:6]}"
    return Group(name=name, source=f"topic-{name}", tiers=_TIERS, partitions=_PARTITIONS, concurrency=count, works={})


def _moved(source: str, partition: int, offset: int, number: int) -> list[tuple[str, bytes]]:
    """The headers of a record that failed once and waits in the first tier."""
    way = {
        headers.ORIGIN_TOPIC: source,
        headers.ORIGIN_PARTITION: str(partition),
        headers.ORIGIN_OFFSET: str(offset),
        headers.ORIGIN_TIMESTAMP: "1767225600000",
        headers.FIRST_FAILURE: "1767225600000",
        headers.LEVEL: "0.0.1",
        headers.FROM: f"source@{offset}",
        headers.MOVER: "0123456789abcdef",
        headers.DUE: "4102444800000",
        headers.ATTEMPTS: "1",
    }
    return headers.replaced(headers_of(number, offset), way)


async def _fill(servers: str, group: Group, partition: int, count: int, keys: int) -> None:
    topic = tier_topic(group.source, group.name, 1)
    async with AIOKafkaProducer(bootstrap_servers=servers, max_batch_size=1_000_000) as producer:
        batch, under_way = producer.create_batch(), []
        for offset in range(count):
            number = (offset * _PARTITIONS + partition) % keys
            record = {
                "key": key(number),
                "value": value(number, 0),
                "timestamp": int(time.time() * 1000),
                "headers": _moved(group.source, partition, offset, number),
            }
            if batch.append(**record) is None:
                under_way.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                batch.append(**record)
        under_way.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*under_way)


async def _take_over(settings: Settings, group: Group) -> tuple[Core, float, float]:
    """The core that owns everything, and the seconds and CPU seconds it took."""
    kafka, family = client_options(settings), Family(group)
    assigned = asyncio.Event()

    async def revoked(lost: bool) -> None:
        assigned.clear()

    consumer = KafkaGroupConsumer(
        kafka, group=group.name, topics=list(family.shelves), session_timeout=10, rebalance_timeout=30
    )
    await consumer.start(revoked, assigned.set)
    await assigned.wait()
    core = Core(group.tiers, Limits(concurrency=1))
    wall, cpu = time.monotonic(), time.process_time()
    async for found in read_in_portions(family, range(_PARTITIONS), consumer, KafkaLogReader(kafka)):
        for partition, shelves in found.shelves.items():
            core.assigned(partition, shelves, "bench")
        del found
    spent = time.monotonic() - wall, time.process_time() - cpu
    await consumer.stop()
    return core, *spent


def main() -> None:
    """Fill, take over, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.restore", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=10_000)
    options = parser.parse_args()
    group = _group(1)
    with servers() as settings:
        address = str(settings.kafka_bootstrap_servers)
        make_topics(address, [group.source, *family_topics(group.source, group.name, len(group.tiers))], _PARTITIONS)
        for partition in range(_PARTITIONS):
            asyncio.run(_fill(address, group, partition, options.count // _PARTITIONS, options.keys))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        core, wall, cpu = uvloop.run(_take_over(settings, group))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = sum(
            lanes.outstanding.count(level) for lanes in core.partitions.values() for level in lanes.outstanding.levels
        )
        print(f"{found:,} outstanding: {wall:.1f} s, {cpu:.1f} s of CPU, peak RSS {before >> 10} -> {peak >> 10} MiB")


if __name__ == "__main__":
    main()

"""Following a topic on a real broker: what comes, what is cut off, and what happens when the broker goes away."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from aiokafka import TopicPartition as Native
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from streams.adapters.kafka.follower import KafkaFollower
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.control import TOPIC, Order
from streams.dev import jars, ports
from streams.dev.kafka import KafkaBroker
from streams.engine.cancelling import Cancelling, Orders
from streams.job import TransientError
from streams.ports import Message, OutOfRangeError, TopicPartition
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streams.settings import Settings
    from tests.servers import CreateTopics


async def test_what_comes_is_told_in_order_and_silence_too(
    settings: Settings, unique: Callable[[str], str], create_topics: CreateTopics
) -> None:
    topic, publisher = unique("followed"), KafkaPublisher(client_options(settings))
    await create_topics(topic, partitions=2)
    await publisher.start()
    for number in range(3):
        await publisher.publish(Message(topic, b"k", b"%d" % number, partition=0))
    found: list[tuple[int, bytes | None]] = []
    silences = 0
    async with asyncio.timeout(30):
        following = KafkaFollower(client_options(settings)).follow(
            {TopicPartition(topic, 0): 1, TopicPartition(topic, 1): 0}
        )
        async for records in following:
            found += [(record.partition, record.value) for record in records]
            silences += not records
            if silences == 1 and not records:
                await publisher.publish(Message(topic, b"k", b"late", partition=1))
            if len(found) == 3:
                break
        await following.aclose()  # type: ignore[attr-defined]
    await publisher.stop()

    assert found == [(0, b"1"), (0, b"2"), (1, b"late")]


@pytest.mark.parametrize("offset", [0, 9])
async def test_a_place_the_log_does_not_have_is_told(
    settings: Settings, kafka: str, unique: Callable[[str], str], create_topics: CreateTopics, offset: int
) -> None:
    topic, publisher = unique("cut"), KafkaPublisher(client_options(settings))
    await create_topics(topic, partitions=1)
    await publisher.start()
    for number in range(3):
        await publisher.publish(Message(topic, b"k", b"%d" % number))
    await publisher.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({Native(topic, 0): RecordsToDelete(before_offset=2)})
    await admin.close()

    async def follow() -> None:
        async for _ in KafkaFollower(client_options(settings)).follow({TopicPartition(topic, 0): offset}):
            pass

    with pytest.raises(OutOfRangeError):
        await asyncio.wait_for(follow(), 30)


async def test_orders_are_heard_again_once_a_broker_that_was_away_is_back(settings: Settings, tmp_path: Path) -> None:
    port = ports.any_free()
    classpath, files = jars.fetch(jars.cache_dir(), print), (tmp_path / "kafka", tmp_path / "kafka.log")
    server = KafkaBroker(classpath, *files, port=port, controller_port=ports.any_free()).prepare()
    options = client_options(settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{port}"}))
    orders, publisher = Orders(), KafkaPublisher(options)
    cancelling = Cancelling(orders, KafkaFollower(options), KafkaLogReader(options))
    following: asyncio.Task[None] | None = None

    async def order(job_id: str) -> bool:
        given = Order("t", job_id, 0, 2**50, "me")
        try:
            await publisher.publish(Message(TOPIC, given.name.encode(), given.value, partition=0))
        except TransientError:  # the broker is coming back
            return False
        return True

    async def heard() -> bool:
        return "t/second" in orders.known

    def start() -> None:
        server.start()
        server.wait_ready(30, threading.Event())

    await asyncio.to_thread(start)
    try:
        admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")
        await admin.start()
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
        await admin.close()
        await publisher.start()
        await order("first")
        following = asyncio.create_task(cancelling.run())
        await cancelling.known()
        assert list(orders.known) == ["t/first"]
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(start)
        await eventually(lambda: order("second"), within=60)
        await eventually(heard, within=60)
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await publisher.stop()
        await asyncio.to_thread(server.stop)

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as Native
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.dev import jars, ports
from streams.dev.kafka import KafkaBroker
from streams.job import TransientError
from streams.ports import Message, RecordRefusedError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from streams.settings import Settings
    from tests.servers import CreateTopics


@pytest.fixture
async def publisher(settings: Settings) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(client_options(settings))
    await publisher.start()
    yield publisher
    await publisher.stop()


@pytest.fixture
def reader(settings: Settings) -> KafkaLogReader:
    return KafkaLogReader(client_options(settings), patience=20)


@pytest.fixture
async def topic(unique: Callable[[str], str], create_topics: CreateTopics) -> str:
    name = unique("orders")
    await create_topics(name, partitions=3)
    return name


async def everything(reader: KafkaLogReader, topic: str) -> list[tuple[int, int, bytes | None]]:
    found = [
        (record.partition, record.offset, record.value)
        async for records in reader.read(await reader.starts([topic]), await reader.ends([topic]))
        for record in records
    ]
    return sorted(found)


async def test_a_published_record_is_stored_with_its_key_headers_and_partition(
    publisher: KafkaPublisher, kafka: str, topic: str
) -> None:
    message = Message(topic, b"acme/1", b"held", [("ce_id", b"7"), ("ce_type", b"x")], partition=2)
    position = await publisher.publish(message)
    assert position == (topic, 2, 0)
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
        consumer.assign([Native(topic, 2)])
        consumer.seek(Native(topic, 2), 0)
        record = await consumer.getone()
    assert (record.key, record.value, list(record.headers)) == (message.key, message.value, message.headers)


async def test_the_key_decides_the_partition_as_javas_producer_does(publisher: KafkaPublisher, topic: str) -> None:
    # murmur2("acme/1") & 0x7fffffff = 1304797443; the same key always meets the same partition
    positions = [await publisher.publish(Message(topic, b"acme/1", b"%d" % n)) for n in range(3)]
    assert {position.partition for position in positions} == {1304797443 % 3}
    assert [position.offset for position in positions] == [0, 1, 2]


async def test_records_sent_in_a_row_are_stored_in_that_order(
    publisher: KafkaPublisher, reader: KafkaLogReader, topic: str
) -> None:
    pending = [await publisher.send(Message(topic, b"k", b"%d" % n, partition=0)) for n in range(500)]
    positions = await asyncio.gather(*pending)
    assert [position.offset for position in positions] == list(range(500))
    assert [value for _, _, value in await everything(reader, topic)] == [b"%d" % n for n in range(500)]


async def test_many_records_are_stored_in_order_where_the_same_records_one_by_one_would_be(
    publisher: KafkaPublisher, reader: KafkaLogReader, topic: str
) -> None:
    keys = [f"key-{number % 7}".encode() for number in range(3_000)]
    messages = [Message(topic, key, f"{n}-{'x' * 100}".encode()) for n, key in enumerate(keys)]
    alone = {key: (await publisher.publish(Message(topic, key, b"alone"))).partition for key in set(keys)}

    await publisher.publish_all(messages)

    found = [record for record in await everything(reader, topic) if record[2] != b"alone"]
    for partition in range(3):
        expected = [message.value for message in messages if alone[message.key] == partition]
        assert [value for number, _, value in found if number == partition] == expected


async def test_many_records_with_one_too_large_are_refused_and_the_next_ones_are_stored(
    publisher: KafkaPublisher, reader: KafkaLogReader, topic: str
) -> None:
    large = Message(topic, b"k", random.Random(1).randbytes(2_000_000))
    with pytest.raises(RecordRefusedError):
        await publisher.publish_all([Message(topic, b"k", b"small"), large])
    await publisher.publish_all([Message(topic, b"k", b"next")])
    assert (await everything(reader, topic))[-1][2] == b"next"


async def test_each_of_many_records_is_told_its_own_place(
    publisher: KafkaPublisher, reader: KafkaLogReader, topic: str
) -> None:
    keys = [f"key-{number % 7}".encode() for number in range(3_000)]
    messages = [Message(topic, key, f"{n}-{'x' * 100}".encode()) for n, key in enumerate(keys)]
    alone = [await publisher.publish(message) for message in messages[:7]]

    places = await asyncio.gather(*await publisher.send_many(messages))

    stored = {(partition, offset): value for partition, offset, value in await everything(reader, topic)}
    assert [stored[place.partition, place.offset] for place in places] == [message.value for message in messages]
    assert [place.partition for place in places[:7]] == [place.partition for place in alone]
    for number in range(7):
        assert places[number::7] == sorted(places[number::7])


async def test_of_many_records_one_that_is_too_large_is_refused_and_none_is_stored_behind_it(
    publisher: KafkaPublisher, reader: KafkaLogReader, topic: str
) -> None:
    large = Message(topic, b"k", random.Random(1).randbytes(2_000_000))
    messages = [Message(topic, b"k", b"before"), large, Message(topic, b"k", b"behind")]
    ends = await asyncio.gather(*await publisher.send_many(messages), return_exceptions=True)

    assert isinstance(ends[0], tuple)
    assert isinstance(ends[1], RecordRefusedError)
    assert isinstance(ends[2], TransientError)
    assert [value for _, _, value in await everything(reader, topic)] == [b"before"]
    (after,) = await publisher.send_many([Message(topic, b"k", b"after")])
    assert (await after).offset == 1


async def test_a_record_larger_than_the_topic_allows_is_refused_and_the_next_one_is_stored(
    publisher: KafkaPublisher, unique: Callable[[str], str], create_topics: CreateTopics
) -> None:
    topic = unique("small")
    await create_topics(topic, configs={"max.message.bytes": "2000"})
    with pytest.raises(RecordRefusedError, match="too large"):
        await publisher.publish(Message(topic, b"k", random.Random(1).randbytes(3000), partition=0))
    assert await publisher.publish(Message(topic, b"k", b"small", partition=0)) == (topic, 0, 0)


async def test_a_partition_that_does_not_exist_is_refused(publisher: KafkaPublisher, topic: str) -> None:
    with pytest.raises(RecordRefusedError, match="has no partition 3"):
        await publisher.publish(Message(topic, b"k", b"v", partition=3))


async def test_a_producer_out_of_sequence_is_replaced(publisher: KafkaPublisher, topic: str) -> None:
    await publisher.publish(Message(topic, b"k", b"1", partition=0))
    inner = publisher._producer
    assert inner is not None
    inner._txn_manager.increment_sequence_number(Native(topic, 0), 5)  # as after a batch that was given up
    with pytest.raises(TransientError, match="OutOfOrderSequence"):
        await publisher.publish(Message(topic, b"k", b"2", partition=0))
    assert await publisher.publish(Message(topic, b"k", b"3", partition=0)) == (topic, 0, 1)


async def test_an_unreachable_broker_is_a_transient_fault() -> None:
    options = {"bootstrap_servers": f"127.0.0.1:{ports.any_free()}"}
    with pytest.raises(TransientError):
        await KafkaPublisher(options, timeout=1).start()
    with pytest.raises(TransientError):
        await KafkaLogReader(options).ends(["any"])


async def test_a_missing_topic_is_a_transient_fault(settings: Settings, unique: Callable[[str], str]) -> None:
    publisher = KafkaPublisher(client_options(settings), timeout=1)
    with pytest.raises(TransientError):
        await publisher.publish(Message(unique("nowhere"), b"k", b"v"))
    await publisher.stop()


async def test_a_record_published_while_the_broker_is_down_fails_and_the_next_after_its_return_is_stored(
    tmp_path: Path, unique: Callable[[str], str]
) -> None:
    classpath = jars.fetch(jars.cache_dir(), print)
    port = ports.any_free()
    broker = KafkaBroker(
        classpath, tmp_path / "kafka", tmp_path / "kafka.log", port=port, controller_port=ports.any_free()
    )
    server = broker.prepare()
    server.start()
    publisher, ending = (KafkaPublisher({"bootstrap_servers": f"127.0.0.1:{port}"}, timeout=1) for _ in range(2))
    try:
        server.wait_ready(30, threading.Event())
        topic = unique("orders")
        await _create(f"127.0.0.1:{port}", topic)
        for one in (publisher, ending):
            await one.publish(Message(topic, b"k", b"before", partition=0))
        await asyncio.to_thread(server.stop)
        for one in (publisher, ending):
            with pytest.raises(TransientError):
                await one.publish(Message(topic, b"k", b"lost?", partition=0))
        lost = await publisher.send_many([Message(topic, b"k", b"lost?", partition=0)] * 3)
        ends = await asyncio.gather(*lost, return_exceptions=True)
        assert [type(end) for end in ends] == [TransientError] * 3
        async with asyncio.timeout(10):  # it must not wait for the broker's return
            await ending.stop()
        server.start()
        server.wait_ready(30, threading.Event())
        position = await _until_stored(publisher, Message(topic, b"k", b"after", partition=0))
        assert position.offset >= 1
    finally:
        await publisher.stop()
        await asyncio.to_thread(server.stop)


async def test_reading_ends_behind_the_marker_of_a_transaction(
    reader: KafkaLogReader, kafka: str, topic: str, unique: Callable[[str], str]
) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=unique("tx")) as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"kept", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
    assert (await reader.ends([topic]))[TopicPartition(topic, 0)] == 4
    assert await everything(reader, topic) == [(0, 0, b"kept")]


async def test_reading_starts_at_the_first_record_that_is_left(
    reader: KafkaLogReader, publisher: KafkaPublisher, kafka: str, topic: str
) -> None:
    for n in range(5):
        await publisher.publish(Message(topic, b"k", b"%d" % n, partition=1))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({Native(topic, 1): RecordsToDelete(3)})
    await admin.close()
    assert (await reader.starts([topic]))[TopicPartition(topic, 1)] == 3
    zero = {TopicPartition(topic, partition): 0 for partition in range(3)}
    found = [r.value async for records in reader.read(zero, await reader.ends([topic])) for r in records]
    assert found == [b"3", b"4"]


async def test_a_stretch_is_read_exactly(reader: KafkaLogReader, publisher: KafkaPublisher, topic: str) -> None:
    for n in range(10):
        await publisher.publish(Message(topic, b"k", b"%d" % n, partition=0))
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    batches = [records async for records in reader.read({first: 2, second: 0}, {first: 5, second: 0})]
    assert [record.offset for records in batches for record in records] == [2, 3, 4]


async def test_topics_that_do_not_exist_have_no_offsets(
    reader: KafkaLogReader, topic: str, unique: Callable[[str], str]
) -> None:
    assert await reader.ends([topic, unique("missing")]) == {TopicPartition(topic, n): 0 for n in range(3)}


async def test_reading_beyond_what_exists_gives_up(settings: Settings, topic: str) -> None:
    reader = KafkaLogReader(client_options(settings), patience=0.5)
    with pytest.raises(TransientError, match="nothing could be read"):
        async for _ in reader.read({}, {TopicPartition(topic, 0): 1}):
            pass


async def _create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()


async def _until_stored(publisher: KafkaPublisher, message: Message) -> tuple[str, int, int]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await publisher.publish(message)
            except TransientError:
                continue

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import CreateTopics


async def test_the_embedded_kafka_stores_and_returns_a_record(
    kafka: str, unique: Callable[[str], str], create_topics: CreateTopics
) -> None:
    topic = unique("orders")
    await create_topics(topic, partitions=2)
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        await producer.send_and_wait(topic, b"hello", partition=1)
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
        consumer.assign([TopicPartition(topic, 1)])
        consumer.seek(TopicPartition(topic, 1), 0)
        record = await consumer.getone()
    assert record.value == b"hello"


async def test_the_embedded_redis_answers(redis_url: str, unique: Callable[[str], str]) -> None:
    async with Redis.from_url(redis_url) as redis:
        key = unique("key")
        await redis.set(key, "1")
        assert await redis.get(key) == b"1"


async def test_the_embedded_postgres_answers(database_url: str) -> None:
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        assert (await connection.execute(text("select 1"))).scalar() == 1
    await engine.dispose()

"""Connections and background tasks of aiokafka that break, under uvloop as in the real processes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from streams.adapters.kafka import consumers, group
from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.kafka.options import client_options
from streams.job import TransientError
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from streams.settings import Settings


def test_a_request_on_a_connection_that_was_just_reset_is_a_connection_error(settings: Settings) -> None:
    async def ask() -> None:
        client_options(settings)
        host, port = str(settings.kafka_bootstrap_servers).split(":")
        connection = await create_conn(host, int(port))
        connection._writer.transport.abort()
        answers = []
        while connection._writer is not None:  # until aiokafka has noticed
            with contextlib.suppress(KafkaConnectionError):
                answers.append(asyncio.ensure_future(connection.send(MetadataRequest([]))))
            await asyncio.sleep(0)
        assert answers
        assert all(isinstance(e, KafkaConnectionError) for e in await asyncio.gather(*answers, return_exceptions=True))

    uvloop.run(ask())


async def test_a_consumer_whose_fetcher_has_died_can_be_closed(settings: Settings, unique, create_topics) -> None:
    topic = unique("orders")
    await create_topics(topic)
    consumer = AIOKafkaConsumer(topic, **client_options(settings))
    await consumer.start()

    def die() -> None:
        raise RuntimeError("any fault of the library")

    consumer._fetcher._get_actions_per_node = lambda _: die()
    consumer._fetcher._notify(consumer._fetcher._wait_consume_future)
    await consumers.close(consumer)
    assert consumer._fetcher._fetch_task.done()
    assert not any(connection.connected() for connection in consumer._client._conns.values())


async def test_a_question_about_commits_on_a_silent_connection_is_given_up_and_asked_anew(
    settings: Settings, unique, create_topics, monkeypatch
) -> None:
    topic = unique("orders")
    await create_topics(topic)
    monkeypatch.setattr(group, "_PATIENCE", 300)  # milliseconds
    member = KafkaGroupConsumer(
        client_options(settings), group=topic, topics=[topic], session_timeout=6, rebalance_timeout=6
    )
    assigned = asyncio.Event()
    await member.start(lambda: asyncio.sleep(0), assigned.set)
    await assigned.wait()
    place = TopicPartition(topic, 0)
    assert await member.committed([place]) == {}
    for connection in member._admin._client._conns.values():
        monkeypatch.setattr(connection, "_writer", _Silent(connection._writer))
    async with asyncio.timeout(10):
        with pytest.raises(TransientError):
            await member.committed([place])
        assert await member.committed([place]) == {}
    await member.stop()


class _Silent:
    """A connection's writer whose bytes are lost on their way."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> object:
        return getattr(self._writer, name)

    def write(self, data: bytes) -> None:
        """Lose it."""

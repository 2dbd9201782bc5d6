"""Connections and background tasks of aiokafka that break, under uvloop as in the real processes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import GroupLoadInProgressError, KafkaConnectionError, NotCoordinatorForGroupError
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3
from aiokafka.protocol.metadata import MetadataRequest

from streams.adapters.kafka import consumers, group, reader
from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.kafka.offsets import KafkaCommits
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.reader import KafkaLogReader
from streams.job import TransientError
from streams.ports import Committed, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streams.settings import Settings

    Member = tuple[KafkaGroupConsumer, asyncio.Event]


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


async def test_a_consumer_that_waits_for_a_silent_broker_can_be_closed(
    settings: Settings, unique, create_topics
) -> None:
    topic = unique("orders")
    await create_topics(topic)
    consumer = AIOKafkaConsumer(topic, **client_options(settings))
    await consumer.start()
    silent = asyncio.create_task(asyncio.Event().wait())  # as a fetch is that gets no answer
    consumer._fetcher._pending_tasks.add(silent)
    await consumers.close(consumer)  # aiokafka raises the fetch's cancellation as if it were the caller's
    assert silent.cancelled()
    assert not any(connection.connected() for connection in consumer._client._conns.values())


@contextlib.asynccontextmanager
async def member(
    settings: Settings, topic: str, revoked: Callable[[bool], Awaitable[None]], **times: float
) -> AsyncIterator[Member]:
    found, assigned = _member(settings, topic, **times), asyncio.Event()
    await found.start(revoked, assigned.set)
    yield found, assigned
    await found.stop()


async def test_a_silent_connection_is_given_up_long_before_a_rebalance_would_be(
    settings: Settings, unique, create_topics, monkeypatch
) -> None:
    topic = unique("orders")
    await create_topics(topic, partitions=1)
    monkeypatch.setattr(group, "_PATIENCE", 300)  # milliseconds
    async with member(settings, topic, nothing) as (found, assigned), asyncio.timeout(10):
        await assigned.wait()
        for connection in found._consumer._client._conns.values():
            monkeypatch.setattr(connection, "_writer", _Silent(connection._writer))
        found.seek(TopicPartition(topic, 0), 0)
        await found.commit({TopicPartition(topic, 0): Committed(0, "all is well")})
        assert await found.committed([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): (0, "all is well")}


def silenced(client_class: Any) -> Any:
    """The class of clients whose requests are lost once they have started."""

    class Silenced(client_class):
        async def start(self) -> None:
            await super().start()
            connect = self._client._get_conn

            async def silent(*args: object, **options: object) -> object:
                connection = await connect(*args, **options)
                connection._writer = _Silent(connection._writer)
                return connection

            self._client._get_conn = silent

    return Silenced


@pytest.mark.parametrize("client_class", [AIOKafkaConsumer, AIOKafkaAdminClient])
async def test_a_reader_gives_a_silent_connection_up_as_soon_as_the_group_does(
    settings: Settings, unique, create_topics, monkeypatch, client_class
) -> None:
    topic = unique("orders")
    await create_topics(topic, partitions=1)
    monkeypatch.setattr(reader, client_class.__name__, silenced(client_class))
    monkeypatch.setattr(reader, "_PATIENCE", 300)  # milliseconds
    reading = KafkaLogReader(client_options(settings))
    async with asyncio.timeout(10):
        for bounds in (reading.starts, reading.ends):
            with pytest.raises(TransientError):
                await bounds([topic])


async def test_a_coordinator_that_does_not_know_the_group_yet_does_not_say_that_nothing_is_committed(
    settings: Settings, unique, create_topics, monkeypatch
) -> None:
    topic = unique("orders")
    await create_topics(topic, partitions=1)
    place, at = TopicPartition(topic, 0), Committed(0, "all is well")
    async with member(settings, topic, nothing) as (found, assigned), asyncio.timeout(10):
        await assigned.wait()
        await found.commit({place: at})

    codes, send = [GroupLoadInProgressError.errno, NotCoordinatorForGroupError.errno], AIOKafkaAdminClient._send_request

    async def still_loading(admin: AIOKafkaAdminClient, request: object, node: int | None = None) -> object:
        if isinstance(request, OffsetFetchRequest) and codes:
            return OffsetFetchResponse_v3(throttle_time_ms=0, topics=[], error_code=codes.pop(0))  # as Kafka answers
        return await send(admin, request, node)

    monkeypatch.setattr(AIOKafkaAdminClient, "_send_request", still_loading)
    assert await KafkaCommits(client_options(settings), topic).committed([place]) == {place: at}
    assert not codes


async def test_who_joins_waits_as_long_as_others_need_to_let_go(
    settings: Settings, unique, create_topics, monkeypatch, caplog
) -> None:
    topic = unique("orders")
    await create_topics(topic, partitions=2)
    monkeypatch.setattr(group, "_PATIENCE", 300)  # milliseconds

    async def let_go_late(lost: bool) -> None:
        await asyncio.sleep(1)

    async with member(settings, topic, let_go_late) as (first, assigned), asyncio.timeout(10):
        await assigned.wait()
        assigned.clear()
        async with member(settings, topic, nothing) as (second, joined):
            await asyncio.gather(assigned.wait(), joined.wait())
            assert len(first.assignment()) == len(second.assignment()) == 1
    assert "marking coordinator dead" not in caplog.text


async def test_members_hear_of_a_rebalance_before_its_time_is_up_however_long_a_session_may_be(
    settings: Settings, unique, create_topics, caplog
) -> None:
    topic = unique("orders")
    await create_topics(topic, partitions=2)
    times = {"session_timeout": 30, "rebalance_timeout": 2}
    async with member(settings, topic, nothing, **times) as (first, assigned), asyncio.timeout(20):
        await assigned.wait()
        assigned.clear()
        async with member(settings, topic, nothing, **times) as (second, joined):
            await asyncio.gather(assigned.wait(), joined.wait())
            assert len(first.assignment()) == len(second.assignment()) == 1
    assert "generation id is not" not in caplog.text


async def nothing(lost: bool) -> None:
    """All is let go at once."""


def _member(
    settings: Settings, topic: str, session_timeout: float = 6, rebalance_timeout: float = 60
) -> KafkaGroupConsumer:
    return KafkaGroupConsumer(
        client_options(settings),
        group=topic,
        topics=[topic],
        session_timeout=session_timeout,
        rebalance_timeout=rebalance_timeout,
    )


class _Silent:
    """A connection's writer whose bytes are lost on their way."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> object:
        return getattr(self._writer, name)

    def write(self, data: bytes) -> None:
        """Lose it."""

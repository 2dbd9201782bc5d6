"""Real servers for the integration tests: one Kafka, Redis and PostgreSQL per test run, on free ports.

``kafka`` (bootstrap servers), ``redis_url``, ``database_url`` and ``settings`` name them; ``unique("orders")`` gives a
name no other test has; ``await create_topics("a", "b", partitions=4)`` creates topics, since none appear by themselves.

Invariant: each process of ``pytest -n`` has servers of its own, so that tests which run at once share no queue, group
or table. Tests of one process do: who counts what is in a queue uses one of its own, see ``integration/own_queue.py``.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Protocol

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr

from streams.dev import ports
from streams.dev.stack import PARTS, Stack
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class CreateTopics(Protocol):
    """Creates topics and returns when they exist."""

    async def __call__(self, *names: str, partitions: int = 4, configs: Mapping[str, str] | None = None) -> None: ...


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), asked={name: ports.any_free() for name in PARTS})
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture(scope="session")
def kafka(stack: Stack) -> str:
    return str(stack.addresses.kafka_bootstrap_servers)


@pytest.fixture(scope="session")
def redis_url(stack: Stack) -> str:
    return str(stack.addresses.redis_url)


@pytest.fixture(scope="session")
def database_url(stack: Stack) -> str:
    return str(stack.addresses.database_url)


@pytest.fixture(scope="session")
def settings(stack: Stack, kafka: str, redis_url: str, database_url: str) -> Settings:
    return Settings(
        _env_file=None,
        data_dir=stack.folder,
        kafka_bootstrap_servers=kafka,
        redis_url=redis_url,
        database_url=SecretStr(database_url),
    )


@pytest.fixture
def unique() -> Callable[[str], str]:
    return lambda name: f"{name}-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def create_topics(kafka: str) -> CreateTopics:
    async def create(*names: str, partitions: int = 4, configs: Mapping[str, str] | None = None) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            topics = [NewTopic(name, partitions, 1, topic_configs=dict(configs or {})) for name in names]
            answer = await admin.create_topics(topics)
            failed = [error for error in answer.topic_errors if error[1]]
            assert not failed, failed
        finally:
            await admin.close()

    return create

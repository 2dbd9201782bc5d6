"""The benchmark's own embedded broker, its topics, and nothing left behind between runs."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.core.headers import dlt_topic, tier_topic
from streams.dev import control, ports
from streams.dev.stack import Stack
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

FOLDER = Path(".keylane") / "bench"


@contextlib.contextmanager
def servers(parts: Sequence[str] = ("kafka",), folder: Path = FOLDER / "stack") -> Iterator[Settings]:
    """Settings of empty servers that run as long as the block."""
    control.reset(folder)
    stack = Stack(folder, parts=parts, asked={part: ports.any_free() for part in parts})
    stack.start()
    try:
        yield stack.settings(Settings(_env_file=None, data_dir=folder))
    finally:
        stack.stop()


def family_topics(topic: str, group: str, tiers: int = 3) -> list[str]:
    """The topics a keylane group needs beside its source."""
    return [*(tier_topic(topic, group, tier) for tier in range(tiers + 1)), dlt_topic(topic, group)]


def make_topics(servers: str, names: Iterable[str], partitions: int = 8) -> None:
    """Create topics and return when they exist."""
    if wanted := list(names):
        asyncio.run(_make(servers, wanted, partitions))


def drop_topics(servers: str, names: Iterable[str]) -> None:
    """Delete topics that a run has left."""
    if wanted := list(names):
        asyncio.run(_drop(servers, wanted))


@contextlib.asynccontextmanager
async def _admin(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _make(servers: str, names: list[str], partitions: int) -> None:
    async with _admin(servers) as admin:
        answer = await admin.create_topics([NewTopic(name, partitions, 1) for name in names])
        failed = [error for error in answer.topic_errors if error[1]]
        if failed:
            raise RuntimeError(f"topics could not be created: {failed}")


async def _drop(servers: str, names: list[str]) -> None:
    async with _admin(servers) as admin:
        await admin.delete_topics(names)

"""Handlers marked ``once`` on a real broker and PostgreSQL: killed at every point, and stopped and woken as zombies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.sql import connect, migrate
from streams.core import headers
from tests.eventually import eventually
from tests.integration.engine_kit import Kit, MemoryRegistry
from tests.integration.once_child import POINTS, Task, group_of
from tests.provider import Provider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.settings import Settings

ROOT = Path(__file__).parents[2]
ORDERS = 40


class Workers:
    """Starts workers of one group, and ends them all."""

    def __init__(self, kit: Kit, settings: Settings, provider: Provider) -> None:
        self.kit = kit
        self._task = {
            "bootstrap": str(settings.kafka_bootstrap_servers),
            "database": settings.database_url.get_secret_value(),
            "group": kit.group.name,
            "source": kit.group.source,
            "provider": provider.url,
        }
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self, **task: Any) -> subprocess.Popen[bytes]:
        told = json.dumps(asdict(Task(**self._task, **task)))
        self._all.append(subprocess.Popen([sys.executable, "-m", "tests.integration.once_child", told], cwd=ROOT))
        return self._all[-1]

    def end(self) -> None:
        for worker in self._all:
            worker.kill()
            worker.wait()

    async def finished(self) -> None:
        """Wait until the group has committed every order."""
        admin = AIOKafkaAdminClient(**self.kit.options)
        await admin.start()

        async def all_committed() -> bool:
            found = await admin.list_consumer_group_offsets(self.kit.group.name)
            return sum(at.offset for place, at in found.items() if place.topic == self.kit.group.source) == ORDERS

        try:
            await eventually(all_committed, within=60)
        finally:
            await admin.close()


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def workers(settings, unique, create_topics, provider: Provider) -> AsyncIterator[Workers]:
    """Topics with the orders 1 to 40 of as many keys, a provider, and nobody at work yet."""
    engine = connect(settings.database_url.get_secret_value())
    await migrate(engine)
    await engine.dispose()
    kit = Kit(settings, group_of(unique("g"), unique("orders")), MemoryRegistry())
    await create_topics(*kit.family.shelves, partitions=4)
    await kit.publisher.start()
    for number in range(1, ORDERS + 1):
        await kit.publish(number, f"k{number}", partition=number % 4)
    await kit.publisher.stop()
    async with provider.serving():
        made = Workers(kit, settings, provider)
        try:
            yield made
        finally:
            made.end()


async def stopped(worker: subprocess.Popen[bytes]) -> None:
    """Wait until the process has stopped itself."""

    async def asleep() -> bool:
        assert worker.poll() is None, "the worker ended by itself"
        return psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED

    await eventually(asleep, within=60)


async def killed_at_every_point(workers: Workers, *, asks: bool) -> None:
    """Let a worker be killed with an order at each point, and another one go on."""
    first = workers.start(asks=asks, stops=tuple(POINTS))
    await stopped(first)
    first.kill()
    first.wait()
    workers.start(asks=asks)
    await workers.finished()


async def test_a_kill_at_any_point_neither_loses_nor_repeats_an_effect(workers: Workers, provider: Provider) -> None:
    await killed_at_every_point(workers, asks=True)
    assert len(provider.effects) == len(set(provider.effects)) == ORDERS


async def test_without_a_look_up_a_kill_repeats_no_effect_and_leaves_what_nobody_knows_to_an_operator(
    workers: Workers, provider: Provider
) -> None:
    await killed_at_every_point(workers, asks=False)
    # Confirmed but not sent, and sent but not answered, look alike from here: neither is sent again.
    assert len(provider.effects) == len(set(provider.effects)) == ORDERS - 1
    assert await dead(workers.kit) == {"outcome-unknown": {POINTS["confirmed"], POINTS["sent"]}}


async def dead(kit: Kit) -> dict[str, set[int]]:
    """The orders among the dead letters, by classification."""
    reader = KafkaLogReader(kit.options)
    found: dict[str, set[int]] = {}
    start, end = await reader.starts([kit.family.dlt]), await reader.ends([kit.family.dlt])
    async for records in reader.read(start, end):
        for record in records:
            reason = headers.text(record.headers, headers.CLASSIFICATION) or ""
            found.setdefault(reason, set()).add(await kit.codec_number(record))
    return found


async def test_a_zombie_finds_out_before_it_sends(workers: Workers, provider: Provider) -> None:
    zombie = workers.start(deaf=True, timeout=60.0, stops=("begun", "running", "sent", "finished"))
    await stopped(zombie)
    workers.start()
    await workers.finished()
    zombie.send_signal(signal.SIGCONT)
    for point in ("begun", "running"):
        await provider.was_told(f"fenced {POINTS[point]}")
    assert len(provider.effects) == len(set(provider.effects)) == ORDERS


@pytest.mark.parametrize("provider", [Provider(checks_tokens=True)])
async def test_a_zombie_that_stood_still_between_confirming_and_sending_is_refused_by_a_provider_that_checks_tokens(
    workers: Workers, provider: Provider
) -> None:
    zombie = workers.start(blocking=True, stops=("confirmed",))
    await stopped(zombie)
    workers.start()
    await workers.finished()
    zombie.send_signal(signal.SIGCONT)
    await provider.has_refused(1)
    assert len(provider.effects) == len(set(provider.effects)) == ORDERS

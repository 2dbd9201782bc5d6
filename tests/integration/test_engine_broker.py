"""kill -9 of the broker while records run, fail and move; then its return."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.core.retry import RetryPolicy
from streams.dev import ports
from streams.dev.stack import Stack
from streams.job import Group, TransientError, Work
from tests.integration.engine_kit import ORDER, Kit, MemoryRegistry
from tests.integration.test_engine import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from streams.settings import Settings

RECORDS, KEYS = 300, 10


async def test_after_a_kill_of_the_broker_every_acknowledged_record_ends_in_order(
    settings: Settings, tmp_path: Path
) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        await asyncio.sleep(0.01)
        if order.number % 7 == 0 and ctx.attempt == 1:
            raise ValueError("once")
        await ledger.note(ctx.key, order.number)

    port = ports.any_free()
    stack = Stack(tmp_path, parts=("kafka",), asked={"kafka": port})
    await stack.astart()
    address = f"127.0.0.1:{port}"
    group = Group(
        name="g",
        source="orders",
        tiers=(0.3,),
        partitions=2,
        concurrency=20,
        works={ORDER.name: Work(handler=handle, retry=RetryPolicy(attempts=3))},
    )
    kit = Kit(settings.model_copy(update={"kafka_bootstrap_servers": address}), group, MemoryRegistry())
    await create(address, kit)
    await kit.publisher.start()
    async with kit.engine():
        publishing = asyncio.create_task(publish_all(kit))
        await ledger.reached(RECORDS // 4)
        kill(port)
        await stack.astop()
        await stack.astart()
        await publishing
        async with asyncio.timeout(60):
            while len({number for _, number in ledger.effects}) < RECORDS:
                await ledger.grown()
    await kit.publisher.stop()
    await stack.astop()
    for k in range(KEYS):
        first = list(dict.fromkeys(ledger.of(f"t/k{k}")))
        assert first == sorted(first)
        assert len(first) == RECORDS // KEYS


def kill(port: int) -> None:
    listening = [c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN"]
    (pid,) = {pid for pid in listening if pid}
    psutil.Process(pid).send_signal(signal.SIGKILL)


async def create(address: str, kit: Kit) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1) for topic in kit.family.shelves])
    await admin.close()


async def publish_all(kit: Kit) -> None:
    """Publish in order; what is not acknowledged is published again before the next."""
    for number in range(RECORDS):
        acknowledged = False
        while not acknowledged:
            with contextlib.suppress(TransientError):
                await kit.publish(number, f"k{number % KEYS}", partition=number % 2)
                acknowledged = True

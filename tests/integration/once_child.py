"""A worker in a process of its own whose handler is marked ``once``; it stops where it is told to.

Usage: python -m tests.integration.once_child '<a Job as JSON>'
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

from pydantic import SecretStr

from streams.adapters.effects import SqlEffects
from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.sql import connect
from streams.core.retry import RetryPolicy
from streams.job import Done, FencedError, Group, NotDone, Once, Work
from streams.settings import Settings
from tests.integration.engine_kit import ORDER, Kit, MemoryRegistry
from tests.provider import ProviderClient

# Where the order of this number stops.
POINTS = {"begun": 1, "running": 2, "confirmed": 3, "sent": 4, "finished": 5}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the worker is to do.

    Attributes:
        asks: Whether the handler has a look-up.
        blocking: Whether it sends in the very step in which it was confirmed, keeping the loop.
        deaf: Whether the group's word that others have its partitions never reaches it: only a fence can stop it.
        stops: Points: when an order stands at each of them, the process stops itself (SIGSTOP), to be killed or
            continued.
    """

    bootstrap: str
    database: str
    group: str
    source: str
    provider: str
    timeout: float = 2.0
    asks: bool = True
    blocking: bool = False
    deaf: bool = False
    stops: tuple[str, ...] = ()


def group_of(name: str, source: str, **work: Any) -> Group:
    works = {ORDER.name: Work(retry=RetryPolicy(attempts=3), **{"handler": None, **work})}
    return Group(name=name, source=source, tiers=(0.5,), partitions=4, concurrency=200, works=works)


class Stops:
    """Lets the orders of some points wait for each other, then stops the process."""

    def __init__(self, points: tuple[str, ...]) -> None:
        self._left = {POINTS[point] for point in points}
        self._barrier = asyncio.Barrier(max(1, len(points)))

    async def at(self, point: str, number: int) -> None:
        if number not in self._left or number != POINTS[point]:
            return
        self._left.discard(number)
        if self._barrier.n_waiting < self._barrier.parties - 1:
            await self._barrier.wait()
            return
        os.kill(os.getpid(), signal.SIGSTOP)
        if self._barrier.n_waiting:
            await self._barrier.wait()


class StoppingLedger(SqlEffects):
    """Stops behind its steps."""

    def __init__(self, engine: Any, stops: Stops) -> None:
        super().__init__(engine)
        self._stops = stops

    async def begin(self, intent: Any) -> Any:
        standing = await super().begin(intent)
        await self._stops.at("begun", number_of(intent.key))
        return standing

    async def finish(self, claim: Any, result: str) -> bool:
        ours = await super().finish(claim, result)
        await self._stops.at("finished", number_of(claim.key))
        return ours


class DeafConsumer(KafkaGroupConsumer):
    """Passes on what the group gives it, and never that it was taken away."""

    async def start(self, revoked: Any, assigned: Any) -> None:
        owns = asyncio.Event()

        async def unheard(lost: bool) -> None:
            await (asyncio.Event().wait() if owns.is_set() else revoked(lost))

        def given() -> None:
            owns.set()
            assigned()

        await super().start(unheard, given)


def number_of(key: str) -> int:
    return int(key.rpartition("-")[2])


class Handler:
    """Makes one effect per order at the provider."""

    def __init__(self, task: Task, provider: ProviderClient, stops: Stops) -> None:
        self._task = task
        self._provider = provider
        self._stops = stops

    async def __call__(self, order: Any, ctx: Any) -> Done:
        await self._stops.at("running", order.number)
        try:
            await ctx.confirm()
        except FencedError:
            await self._provider.tell(f"fenced {order.number}")
            raise
        await self._stops.at("confirmed", order.number)
        await self._send(ctx.idempotency_key, ctx.fencing_token)
        await self._stops.at("sent", order.number)
        return Done("sent")

    async def _send(self, key: str, token: int) -> None:
        if self._task.blocking:
            urlopen(self._provider.request(key, token)).close()  # noqa: ASYNC210, S310 - on purpose, on the loopback
        else:
            await self._provider.make(key, token)

    async def reconcile(self, order: Any, ctx: Any) -> Done | NotDone:
        return Done("found") if await self._provider.made(ctx.idempotency_key, ctx.fencing_token) else NotDone()


async def main(task: Task) -> None:
    provider, stops = ProviderClient(task.provider), Stops(task.stops)
    handler = Handler(task, provider, stops)
    once = Once(reconcile=handler.reconcile if task.asks else None, settle=0.5, confirms=True)
    settings = Settings(_env_file=None, kafka_bootstrap_servers=task.bootstrap, database_url=SecretStr(task.database))
    group = group_of(task.group, task.source, handler=handler, once=once, timeout=task.timeout)
    kit = Kit(settings, group, MemoryRegistry())
    await kit.codec.encode(ORDER, ORDER.model(number=0))  # the one schema there is gets id 1
    await kit.publisher.start()
    consumer = DeafConsumer if task.deaf else KafkaGroupConsumer
    async with kit.engine(consumer_class=consumer, ledger=StoppingLedger(connect(task.database, ping=False), stops)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Task(**json.loads(sys.argv[1]))))

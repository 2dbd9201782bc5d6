"""Handlers marked ``once`` while PostgreSQL goes away and while partitions move between workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streams.adapters.effects import SqlEffects
from streams.adapters.sql import connect, migrate
from streams.core.retry import RetryPolicy
from streams.dev import ports, postgres
from streams.dev.stack import Stack
from streams.job import Done, Group, NotDone, Once, Work
from tests.eventually import eventually
from tests.integration.engine_kit import ORDER, Kit, MemoryRegistry

if TYPE_CHECKING:
    from pathlib import Path


class Effects:
    """What handlers did, of 300 orders of 30 keys; the effect takes 5 ms and can be looked up."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []

    async def handle(self, order: Any, ctx: Any) -> Done:
        await ctx.confirm()
        self.made.append((ctx.key, ctx.idempotency_key))
        await asyncio.sleep(0.005)
        if order.number % 7 == 0 and ctx.attempt == 1:
            raise ConnectionResetError("no answer")
        return Done(order.number)

    async def reconcile(self, order: Any, ctx: Any) -> Done | NotDone:
        return Done("found") if (ctx.key, ctx.idempotency_key) in self.made else NotDone()

    async def reached(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.made) >= count

        await eventually(enough, within=60)

    def check(self) -> None:
        """Each effect was made once, and those of a key in the order they were published in."""
        assert len(self.made) == len(set(self.made)) == ORDERS
        for key in {key for key, _ in self.made}:
            numbers = [int(name.rpartition("-")[2]) for of, name in self.made if of == key]
            assert numbers == sorted(numbers)


ORDERS, KEYS = 300, 30


async def prepared(settings: Any, unique: Any, create_topics: Any, effects: Effects, **once: Any) -> Kit:
    work = Work(
        handler=effects.handle,
        once=Once(reconcile=effects.reconcile, settle=0.2, **once),
        timeout=1.0,
        retry=RetryPolicy(attempts=3, in_place=(0.01,)),
    )
    group = Group(
        name=unique("g"), source=unique("orders"), tiers=(0.5,), partitions=4, concurrency=20, works={ORDER.name: work}
    )
    kit = Kit(settings, group, MemoryRegistry())
    await create_topics(*kit.family.shelves, partitions=4)
    await kit.publisher.start()
    for number in range(ORDERS):
        await kit.publish(number, f"k{number % KEYS}", partition=number % KEYS % 4)
    return kit


async def test_effects_wait_while_postgresql_is_away_and_none_is_made_twice(
    settings, unique, create_topics, tmp_path: Path
) -> None:
    port = ports.any_free()
    stack = Stack(tmp_path, parts=("postgres",), asked={"postgres": port})
    await stack.astart()
    engine, effects = connect(postgres.url(port), ping=False), Effects()
    await migrate(engine)
    kit = await prepared(settings, unique, create_topics, effects)
    async with kit.engine(ledger=SqlEffects(engine)):
        for count in (50, 150):
            await effects.reached(count)
            await stack.astop()
            made = len(effects.made)
            assert made < ORDERS, "it went away too late to prove anything"
            await stack.astart()
        await effects.reached(ORDERS)
        await finished(kit)
    effects.check()
    await kit.publisher.stop()
    await engine.dispose()
    await stack.astop()


async def finished(kit: Kit) -> None:
    """Wait until every run has ended well."""

    async def all_done() -> bool:
        return (
            kit.metrics._child(
                "keylane_records_processed_total", {"group": kit.group.name, "type": ORDER.name, "outcome": "done"}
            )._value.get()
            >= ORDERS
        )

    await eventually(all_done, within=60)


async def test_effects_stay_single_while_partitions_move_between_workers(settings, unique, create_topics) -> None:
    engine, effects = connect(settings.database_url.get_secret_value()), Effects()
    await migrate(engine)
    kit = await prepared(settings, unique, create_topics, effects)
    ledger = SqlEffects(engine)
    async with kit.engine(ledger=ledger):
        for count in (40, 120, 200):
            await effects.reached(count)
            async with kit.engine(ledger=ledger):
                await effects.reached(count + 30)
        await effects.reached(ORDERS)
        await finished(kit)
    effects.check()
    await kit.publisher.stop()
    await engine.dispose()


async def test_a_drain_that_takes_too_long_leaves_an_effect_that_is_looked_up_by_the_next_owner(
    settings, unique, create_topics
) -> None:
    engine, effects = connect(settings.database_url.get_secret_value()), Effects()
    await migrate(engine)
    hanging = asyncio.Event()

    async def hang(order: Any, ctx: Any) -> None:
        await ctx.confirm()
        effects.made.append((ctx.key, ctx.idempotency_key))
        hanging.set()
        await asyncio.Event().wait()

    work = Work(handler=hang, once=Once(reconcile=effects.reconcile), timeout=60.0)
    group = Group(
        name=unique("g"), source=unique("orders"), tiers=(), partitions=4, concurrency=20, works={ORDER.name: work}
    )
    kit = Kit(settings, group, MemoryRegistry())
    await create_topics(*kit.family.shelves, partitions=4)
    await kit.publisher.start()
    await kit.publish(1, "a")
    async with kit.engine(ledger=SqlEffects(engine), drain_timeout=0.1):
        await hanging.wait()
    async with kit.engine(ledger=SqlEffects(engine)):
        await eventually(lambda: answered(kit))
    assert len(effects.made) == 1
    await kit.publisher.stop()
    await engine.dispose()


async def answered(kit: Kit) -> bool:
    labels = {"group": kit.group.name, "answer": "done"}
    return kit.metrics._child("keylane_effects_reconciled_total", labels)._value.get() == 1

"""Dead letters of a running engine, replayed and discarded while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.core.retry import RetryPolicy
from streams.deadletters.entry import Family, Filters
from streams.deadletters.ledger import TOPIC
from streams.deadletters.operation import Operations
from streams.deadletters.reading import DeadLetters
from streams.deadletters.writing import Clock
from streams.job import Group, Reject, Work
from streams.topics import Topic
from tests.eventually import eventually
from tests.integration.engine_kit import ORDER, Kit, MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.settings import Settings
    from tests.servers import CreateTopics


class Shop:
    """A handler that rejects what is broken, and what it did with the rest."""

    def __init__(self) -> None:
        self.broken: set[int] = set()
        self.done: dict[str, list[int]] = defaultdict(list)

    async def handle(self, order: Any, context: Any) -> Any:
        if order.number in self.broken:
            return Reject(f"order {order.number} is broken")
        self.done[context.key].append(order.number)
        return None


class Desk:
    def __init__(self, kit: Kit) -> None:
        self.letters = DeadLetters(KafkaLogReader(kit.options), [family_of(kit)], max_replays=3)
        clock = Clock(time.time, time.monotonic, asyncio.sleep)
        self.operations = Operations(self.letters, kit.publisher, clock, by="test")

    async def states(self, *, followers: bool = False) -> list[str]:
        """The states of the dead ones, or of their followers."""
        ledger = await self.letters.ledger()
        entries = [entry async for entry in self.letters.entries(Filters(), ledger)]
        return sorted(entry.state for entry in entries if followers == (entry.classification == "follower"))

    async def do(self, kind: Any, name: str, **filters: Any) -> int:
        draft = await self.operations.draft(kind, Filters(**filters))
        return (await self.operations.run(await self.operations.start(draft, name))).done


def family_of(kit: Kit) -> Family:
    return Family(kit.group.source, kit.group.name)


async def made(settings: Settings, unique: Callable[[str], str], create_topics: CreateTopics, shop: Shop) -> Kit:
    work = Work(handler=shop.handle, retry=RetryPolicy(attempts=2, on_dead="hold"), timeout=5)
    name = unique("g")
    group = Group(
        name=name, source=unique("orders"), tiers=(0.2,), partitions=2, concurrency=20, works={ORDER.name: work}
    )
    kit = Kit(settings, group, MemoryRegistry())
    await create_topics(*kit.family.shelves, partitions=2)
    admin = TopicAdmin(kit.options)
    await admin.apply(await admin.plan([Topic(name=TOPIC, partitions=1, configs={"cleanup.policy": "compact"})]))
    await kit.publisher.start()
    return kit


async def test_held_keys_go_on_in_order_when_their_dead_letters_are_replayed_or_discarded(
    settings: Settings, unique: Callable[[str], str], create_topics: CreateTopics
) -> None:
    shop = Shop()
    shop.broken = {2, 102}
    kit = await made(settings, unique, create_topics, shop)
    desk, replay, discard = Desk(kit), unique("r"), unique("d")

    async def settled(*expected: str) -> bool:
        return await desk.states() == sorted(expected)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(kit.publisher.stop)
        await stack.enter_async_context(kit.engine())
        for number in range(10):
            await kit.publish(number, "a", 0)
            await kit.publish(100 + number, "b", 0)
        await eventually(lambda: settled("open", "open"), within=30)
        assert shop.done == {"t/a": [0, 1], "t/b": [100, 101]}

        # Replayed before it is repaired: it dies again, and its key still waits.
        assert await desk.do("replay", replay, key="a") == 1
        await eventually(lambda: settled("replayed", "open", "open"), within=30)
        assert shop.done["t/a"] == [0, 1]

        shop.broken = {102}
        assert await desk.do("replay", f"{replay}-2", key="a") == 1
        await eventually(lambda: settled("replayed", "resolved", "open"), within=30)
        assert await desk.do("discard", discard, key="b") == 1

        async def all_done() -> bool:
            return [len(numbers) for _, numbers in sorted(shop.done.items())] == [10, 9]

        await eventually(all_done, within=30)

        async def followers_are_told_of() -> bool:
            return await desk.states(followers=True) == ["resolved"] * 14

        await eventually(followers_are_told_of, within=30)
    assert shop.done["t/a"] == list(range(10))
    assert shop.done["t/b"] == [100, 101, *range(103, 110)]

"""One record's whole life on the real broker: in order, retried, dead, replayed, handed over."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.core import headers
from streams.core.headers import Level, Place
from streams.core.retry import RetryPolicy
from streams.deadletters.ledger import TOPIC as STATES
from streams.job import Batch, Group, Reject, Retry, Work
from streams.ports import Message
from streams.topics import Topic
from tests.integration.engine_kit import ORDER, Kit, MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class Ledger:
    """What handlers did; ``reached(n)`` waits until n effects are noted."""

    def __init__(self) -> None:
        self.effects: list[tuple[str, int]] = []
        self.runs: dict[int, int] = defaultdict(int)
        self._grown = asyncio.Condition()

    async def note(self, key: str, number: int) -> None:
        self.effects.append((key, number))
        async with self._grown:
            self._grown.notify_all()

    async def reached(self, count: int) -> None:
        async with self._grown:
            await asyncio.wait_for(self._grown.wait_for(lambda: len(self.effects) >= count), 30)

    async def grown(self) -> None:
        """Wait for one more effect."""
        async with self._grown:
            await self._grown.wait()

    def of(self, key: str) -> list[int]:
        return [number for k, number in self.effects if k == key]


@pytest.fixture
async def kit(settings, unique, create_topics) -> AsyncIterator[Callable[..., Awaitable[Kit]]]:
    kits: list[Kit] = []

    async def make(
        handler: Any,
        *,
        tiers: tuple[float, ...] = (0.3, 0.6),
        partitions: dict[str, int] | None = None,
        work: dict[str, Any] | None = None,
        **policy: Any,
    ) -> Kit:
        retry = RetryPolicy(**{"attempts": 3, **policy})
        declared = Work(handler=handler, retry=retry, **{"timeout": 5.0, **(work or {})})
        group = Group(
            name=unique("g"),
            source=unique("orders"),
            tiers=tiers,
            partitions=2,
            concurrency=50,
            works={ORDER.name: declared},
        )
        made = Kit(settings, group, MemoryRegistry())
        for topic in made.family.shelves:
            odd = [count for end, count in (partitions or {}).items() if topic.endswith(end)]
            await create_topics(topic, partitions=odd[0] if odd else 2)
        # No commit passes a replayed record whose end cannot be told, and without a commit nothing of its key moves.
        admin = TopicAdmin(made.options)
        await admin.apply(await admin.plan([Topic(name=STATES, partitions=1, configs={"cleanup.policy": "compact"})]))
        await made.publisher.start()
        kits.append(made)
        return made

    yield make
    for made in kits:
        await made.publisher.stop()


async def dead_letters(kit: Kit, count: int) -> list[Any]:
    """The group's dead letters, once there are ``count``."""
    reader = KafkaLogReader(kit.options)
    async with asyncio.timeout(30):
        while True:
            ends = await reader.ends([kit.family.dlt])
            if sum(ends.values()) >= count:
                break
            await asyncio.sleep(0.05)
    return [record async for batch in reader.read({}, ends) for record in batch]


async def test_a_failing_record_waits_in_a_tier_and_its_key_follows_in_order(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        ledger.runs[order.number] += 1
        if order.number == 0 and ctx.attempt < 3:
            raise ValueError("not yet")
        await ledger.note(ctx.key, order.number)

    made = await kit(handle)
    async with made.engine():
        for number in range(5):
            await made.publish(number, "a")
        for number in range(100, 103):
            await made.publish(number, "b")
        await ledger.reached(8)
    assert ledger.of("t/a") == [0, 1, 2, 3, 4]
    assert ledger.of("t/b") == [100, 101, 102]
    assert ledger.runs[0] == 3
    first_of_b, first_of_a = ledger.effects.index(("t/b", 100)), ledger.effects.index(("t/a", 0))
    assert first_of_b < first_of_a, "another key waits for nobody"


async def test_a_record_that_keeps_failing_becomes_a_dead_letter_with_its_story(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> Any:
        if order.number == 0:
            raise ValueError("broken for good")
        if order.number == 1:
            return Reject("we do not serve this")
        await ledger.note(ctx.key, order.number)
        return None

    made = await kit(handle, attempts=2)
    async with made.engine():
        for number in range(3):
            await made.publish(number, "a")
        await ledger.reached(1)
        dead = await dead_letters(made, 2)
    assert ledger.of("t/a") == [2]
    story = [{name: value.decode(errors="replace") for name, value in record.headers} for record in dead]
    assert [s[headers.CLASSIFICATION] for s in story] == ["exhausted", "rejected"]
    assert story[0][headers.ATTEMPTS] == "2"
    assert story[0][headers.EXCEPTION] == "builtins.ValueError"
    assert story[0][headers.ORIGIN_TOPIC] == made.group.source
    assert story[0][headers.ORIGIN_OFFSET] == "0"
    assert "broken for good" in story[0][headers.STACK]


async def test_a_replayed_dead_letter_runs_again_with_fresh_attempts(kit) -> None:
    ledger, mended = Ledger(), asyncio.Event()

    async def handle(order, ctx) -> None:
        if not mended.is_set():
            raise ValueError("broken")
        await ledger.note(ctx.key, order.number)

    made = await kit(handle, attempts=1)
    async with made.engine():
        await made.publish(7, "a")
        (dead,) = await dead_letters(made, 1)
        mended.set()
        await made.publisher.publish(replay(made, dead))
        await ledger.reached(1)
    assert ledger.effects == [("t/a", 7)]


def replay(kit: Kit, dead: Any) -> Message:
    level = headers.parse_level(headers.header(dead.headers, headers.LEVEL))
    assert level is not None
    way = {
        headers.LEVEL: headers.format_level(Level(level.generation + 1, 0, 0)),
        headers.FROM: headers.format_place(Place(level, dead.offset)),
        headers.MOVER: None,
        headers.ATTEMPTS: "0",
        headers.HOLD: None,
        headers.REPLAY_ID: "r1",
    }
    target = headers.tier_topic(kit.group.source, kit.group.name, 0)
    return Message(target, dead.key, dead.value, headers.replaced(dead.headers, way), dead.partition)


async def test_a_held_key_waits_behind_its_dead_letter_until_it_is_replayed_also_over_a_restart(kit) -> None:
    ledger, mended = Ledger(), asyncio.Event()

    async def handle(order, ctx) -> None:
        if order.number == 0 and not mended.is_set():
            raise ValueError("broken")
        await ledger.note(ctx.key, order.number)

    made = await kit(handle, attempts=1, on_dead="hold")
    async with made.engine():
        for number in range(3):
            await made.publish(number, "a")
        await made.publish(100, "b")
        dead = await dead_letters(made, 3)
        await ledger.reached(1)
    assert ledger.effects == [("t/b", 100)]
    mended.set()
    async with made.engine():
        await made.publisher.publish(replay(made, dead[0]))
        await made.publish(3, "a")
        await ledger.reached(5)
    assert ledger.of("t/a") == [0, 1, 2, 3]


async def test_what_cannot_be_decoded_is_dead_at_once_and_the_key_goes_on(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        await ledger.note(ctx.key, order.number)

    made = await kit(handle)
    async with made.engine():
        await made.publish(0, "a", value=b"no avro at all")
        await made.publish(1, "a")
        await ledger.reached(1)
        (dead,) = await dead_letters(made, 1)
    assert dead.value == b"no avro at all"
    assert headers.text(dead.headers, headers.CLASSIFICATION) == "undecodable"
    assert "wire format" in (headers.text(dead.headers, headers.MESSAGE) or "")


async def test_a_second_worker_takes_over_half_and_the_order_holds(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        await asyncio.sleep(0.002)
        await ledger.note(ctx.key, order.number)

    made = await kit(handle)
    async with made.engine() as first:
        for number in range(200):
            await made.publish(number, f"k{number % 10}", partition=number % 2)
        async with made.engine() as second:
            for number in range(200, 400):
                await made.publish(number, f"k{number % 10}", partition=number % 2)
            await ledger.reached(400)
            assert len(first.core.partitions) == len(second.core.partitions) == 1
    for k in range(10):
        seen = list(dict.fromkeys(ledger.of(f"t/k{k}")))
        assert seen == sorted(seen)
        assert len(seen) == 40
    assert len(ledger.effects) == 400, "a drained hand-over repeats nothing"


async def test_a_restart_goes_on_where_the_last_commit_stood(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        await ledger.note(ctx.key, order.number)

    made = await kit(handle)
    async with made.engine():
        for number in range(20):
            await made.publish(number, f"k{number % 3}")
        await ledger.reached(20)
    async with made.engine():
        await made.publish(20, "k0")
        await ledger.reached(21)
    assert sorted(number for _, number in ledger.effects) == list(range(21))


async def test_a_failing_batch_is_halved_until_the_bad_record_is_alone(kit) -> None:
    ledger = Ledger()

    async def handle(orders, contexts) -> None:
        if any(order.number == 13 for order in orders):
            raise ValueError("thirteen")
        for order, ctx in zip(orders, contexts, strict=True):
            await ledger.note(ctx.key, order.number)

    made = await kit(handle, work={"batch": Batch(size=16, linger=0.05)}, attempts=1)
    for number in range(40):
        await made.publish(number, f"k{number % 4}")
    async with made.engine():
        await ledger.reached(39)
        (dead,) = await dead_letters(made, 1)
    assert (await made.codec_number(dead)) == 13
    for k in range(4):
        assert ledger.of(f"t/k{k}") == [n for n in range(k, 40, 4) if n != 13]


async def test_plain_functions_run_in_threads_and_a_handler_may_ask_for_its_own_delay(kit) -> None:
    ledger = Ledger()
    loop = asyncio.get_running_loop()

    def handle(order, ctx) -> Any:
        if ctx.attempt == 1:
            return Retry("a moment", after=0.05)
        asyncio.run_coroutine_threadsafe(ledger.note(ctx.key, order.number), loop).result()
        return None

    made = await kit(handle)
    async with made.engine():
        await made.publish(1, "a")
        await ledger.reached(1)
        ends = await KafkaLogReader(made.options).ends(made.tier_topics)
    assert ledger.effects == [("t/a", 1)]
    assert not any(ends.values()), "a short wait is spent in memory"

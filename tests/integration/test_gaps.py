"""Logs that lost records and groups that lost their offsets: always told, never a jump over what is left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as Native
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.core import headers
from streams.deadletters.ledger import TOPIC as STATES
from streams.topics import Create, Topic
from tests.eventually import eventually
from tests.integration.engine_kit import ORDER, Order
from tests.integration.test_engine import Ledger, dead_letters, kit, replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.engine_kit import Kit

__all__ = ["kit"]


def jumps(kit: Kit, topic: str | None = None) -> dict[str, float]:
    """Partitions of the topic (the source) that were not read on where the group stood, by reason."""
    found = samples(kit, "keylane_offset_jumps_total", topic)
    return {labels["reason"]: value for labels, value in found}


def dropped(kit: Kit, topic: str | None = None) -> float:
    return sum(value for _, value in samples(kit, "keylane_log_gap_records_total", topic))


def samples(kit: Kit, name: str, topic: str | None) -> list[tuple[dict[str, str], float]]:
    families = text_string_to_metric_families(kit.metrics.text().decode())
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return [(s.labels, s.value) for s in found if s.labels["topic"] == (topic or kit.group.source)]


async def drop_below(kit: Kit, topic: str, offset: int) -> None:
    """Let the log of partition 0 begin at ``offset``, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kit.settings.kafka_bootstrap_servers)
    await admin.start()
    await admin.delete_records({Native(topic, 0): RecordsToDelete(offset)})
    await admin.close()


async def commit_by_hand(kit: Kit, offset: int) -> None:
    async with AIOKafkaConsumer(
        bootstrap_servers=kit.settings.kafka_bootstrap_servers, group_id=kit.group.name
    ) as consumer:
        consumer.assign([Native(kit.group.source, 0)])
        await consumer.commit({Native(kit.group.source, 0): offset})


async def delete_group(kit: Kit) -> None:
    admin = AdminClient({"bootstrap.servers": kit.settings.kafka_bootstrap_servers})
    for future in admin.delete_consumer_groups([kit.group.name]).values():
        await asyncio.wrap_future(future)


@pytest.fixture
def noting(kit: Any) -> Callable[..., Any]:
    """A group whose handler notes what it did."""

    async def make(ledger: Ledger, **options: Any) -> Kit:
        async def handle(order, ctx) -> None:
            await ledger.note(ctx.key, order.number)

        return await kit(handle, **options)

    return make


async def test_records_that_the_log_dropped_before_they_were_read_are_counted_and_told_by_name(noting) -> None:
    ledger = Ledger()
    made = await noting(ledger)
    async with made.engine():
        await made.publish(0)
        await ledger.reached(1)
    assert jumps(made) == {}, "a group that starts on empty topics is nothing to tell"
    for number in range(1, 8):
        await made.publish(number)
    await drop_below(made, made.group.source, 5)
    with structlog.testing.capture_logs() as logs:
        async with made.engine():
            await ledger.reached(4)
    assert ledger.of("t/a") == [0, 5, 6, 7]
    assert jumps(made) == {"expired": 1}
    assert dropped(made) == 4
    (told,) = [line for line in logs if "dropped records" in line["event"]]
    assert told["log_level"] == "error"
    assert (told["topic"], told["partition"]) == (made.group.source, 0)
    assert (told["stood"], told["begin"], told["dropped"]) == (1, 5, 4)


async def test_a_group_whose_offsets_were_deleted_starts_from_the_beginning_and_tells_it(noting) -> None:
    ledger = Ledger()
    made = await noting(ledger)
    async with made.engine():
        for number in range(3):
            await made.publish(number)
        await ledger.reached(3)
    await delete_group(made)
    async with made.engine():
        await made.publish(3)
        await ledger.reached(7)
    assert ledger.of("t/a") == [0, 1, 2, 0, 1, 2, 3]
    assert jumps(made) == {"new": 1}, "nothing but the source shows that it worked before"


async def test_lost_offsets_of_a_group_that_has_dead_letters_are_known_as_lost(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        await ledger.note(ctx.key, order.number)
        if order.number == 0:
            raise ValueError("broken")

    made = await kit(handle, attempts=1)
    async with made.engine():
        await made.publish(0)
        await dead_letters(made, 1)
    await delete_group(made)
    with structlog.testing.capture_logs() as logs:
        async with made.engine():
            await made.publish(1)
            await ledger.reached(2)
    assert jumps(made) == {"missing": 1}
    assert jumps(made, made.family.dlt) == {"missing": 1}
    assert {line["log_level"] for line in logs if "offsets are gone" in line["event"]} == {"error"}


async def test_a_commit_beyond_the_end_of_a_topic_made_anew_starts_at_its_beginning(noting) -> None:
    ledger = Ledger()
    made = await noting(ledger)
    await made.publish(0)
    await commit_by_hand(made, 50)
    async with made.engine():
        await made.publish(1)
        await ledger.reached(2)
    assert ledger.of("t/a") == [0, 1]
    assert jumps(made) == {"beyond": 1}


class Gated(KafkaGroupConsumer):
    """A consumer that reads no more of the topics in ``shut`` until they are taken out again."""

    shut: frozenset[str] = frozenset()

    def resume(self, partitions) -> None:
        super().resume([place for place in partitions if place.topic not in self.shut])

    def close(self, topic: str) -> None:
        self.shut = frozenset({topic})
        self.pause([place for place in self.assignment() if place.topic == topic])

    def open(self) -> None:
        self.shut = frozenset()
        self.resume(list(self.assignment()))


def consumer_of(engine: Any) -> Gated:
    return engine._consumer


async def test_records_that_expire_while_the_group_runs_are_counted_and_the_rest_is_read(noting) -> None:
    ledger = Ledger()
    made = await noting(ledger)
    async with made.engine(consumer_class=Gated) as engine:
        await made.publish(0)
        await ledger.reached(1)
        consumer_of(engine).close(made.group.source)
        for number in range(1, 10):
            await made.publish(number)
        await drop_below(made, made.group.source, 8)
        consumer_of(engine).open()
        await ledger.reached(3)
    assert ledger.of("t/a") == [0, 8, 9]
    assert jumps(made) == {"expired": 1}
    assert dropped(made) == 7


async def test_a_gap_is_told_once_even_if_nothing_comes_behind_it_and_the_group_restarts(noting) -> None:
    ledger = Ledger()
    made = await noting(ledger)
    async with made.engine(consumer_class=Gated) as engine:
        await made.publish(0)
        await ledger.reached(1)
        consumer_of(engine).close(made.group.source)
        for number in range(1, 5):
            await made.publish(number)
        await drop_below(made, made.group.source, 5)
        consumer_of(engine).open()
        await eventually(lambda: settled(jumps(made) != {}))
    async with made.engine():
        await made.publish(5)
        await ledger.reached(2)
    assert jumps(made) == {"expired": 1}
    assert dropped(made) == 4


async def test_what_is_held_in_memory_runs_although_the_log_has_dropped_it(kit) -> None:
    ledger, release = Ledger(), asyncio.Event()

    async def handle(order, ctx) -> None:
        await release.wait()
        await ledger.note(ctx.key, order.number)

    made = await kit(handle)
    async with made.engine(consumer_class=Gated) as engine:
        for number in range(3):
            await made.publish(number)
        await eventually(lambda: settled(engine.core.partitions[0].source.position == 3))
        consumer_of(engine).close(made.group.source)
        for number in range(3, 6):
            await made.publish(number)
        await drop_below(made, made.group.source, 5)
        consumer_of(engine).open()
        await eventually(lambda: settled(jumps(made) != {}))
        release.set()
        await ledger.reached(4)
    assert ledger.of("t/a") == [0, 1, 2, 5]
    assert dropped(made) == 2


async def test_a_key_whose_waiting_records_were_dropped_from_a_tier_goes_on(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        if order.number == 0:
            raise ValueError("not now")
        await ledger.note(ctx.key, order.number)

    made = await kit(handle, tiers=(60.0,))
    tier = headers.tier_topic(made.group.source, made.group.name, 1)
    async with made.engine(consumer_class=Gated) as engine:
        consumer_of(engine).close(tier)
        for number in range(2):
            await made.publish(number)
        await eventually(lambda: stored(made, tier, 2))
        await made.publish(5, "b")
        await ledger.reached(1)
        await drop_below(made, tier, 2)
        consumer_of(engine).open()
        await made.publish(2)
        await ledger.reached(2)
    assert ledger.effects == [("t/b", 5), ("t/a", 2)], "0 and 1 are gone, and told of"
    assert jumps(made, tier) == {"expired": 1}
    assert dropped(made, tier) == 2


async def test_a_held_key_whose_followers_were_dropped_goes_on(kit) -> None:
    ledger, mended = Ledger(), asyncio.Event()

    async def handle(order, ctx) -> None:
        if order.number == 0 and not mended.is_set():
            raise ValueError("broken")
        await ledger.note(ctx.key, order.number)

    made = await kit(handle, attempts=1, on_dead="hold")
    await TopicAdmin(made.options).apply([Create(Topic(name=STATES, partitions=1))])
    async with made.engine():
        for number in range(2):
            await made.publish(number)
        dead = await dead_letters(made, 2)
        await drop_below(made, made.family.dlt, 2)
        mended.set()
        await made.publisher.publish(replay(made, dead[0]))
        await made.publish(2)
        await ledger.reached(2)
    assert ledger.of("t/a") == [0, 2], "1 is gone, and told of"
    assert dropped(made, made.family.dlt) == 1


async def test_records_of_an_aborted_transaction_do_not_run(noting) -> None:
    ledger = Ledger()
    made = await noting(ledger)
    value = await made.codec.encode(ORDER, Order(number=9))
    async with made.engine():
        async with AIOKafkaProducer(
            bootstrap_servers=made.settings.kafka_bootstrap_servers, transactional_id=made.group.name
        ) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(made.group.source, value, b"t/a", partition=0)
            await producer.abort_transaction()
        await made.publish(1)
        await ledger.reached(1)
    assert ledger.of("t/a") == [1]
    assert jumps(made) == {}, "a marker is no gap"


async def settled(condition: bool) -> bool:
    return condition


async def stored(kit: Kit, topic: str, count: int) -> bool:
    return sum((await KafkaLogReader(kit.options).ends([topic])).values()) >= count

"""Builds engines on the real broker for tests, with a registry in memory and a ledger of what handlers really did."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from schemas.codec import Codec
from schemas.contract import Contract
from schemas.errors import UnknownSchemaError
from streams.adapters.kafka.batches import KafkaBatchWriter
from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.metrics import PrometheusMetrics
from streams.core.group import Limits
from streams.engine.calls import Calls
from streams.engine.engine import Engine, EngineOptions
from streams.engine.family import Family
from streams.engine.fence import Means
from streams.engine.once import OnceCalls
from streams.engine.outbox import Outbox
from streams.engine.runner import Runner
from streams.engine.telemetry import Telemetry
from streams.event import Attributes, to_headers
from streams.ports import Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.job import Group
    from streams.ports import EffectLedger
    from streams.settings import Settings


class Order(BaseModel):
    number: int
    name: str = "x"


ORDER = Contract(
    name="order.placed",
    kind="event",
    model=Order,
    schemas=(
        """{"type": "record", "name": "Placed", "namespace": "keylane.order", "fields": [
            {"name": "number", "type": "long"}, {"name": "name", "type": "string", "default": "x"}]}""",
    ),
)


class MemoryRegistry:
    """Schema ids by order of registration."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.away = False

    async def register(self, subject: str, schema: str) -> int:
        del subject
        if schema not in self.texts:
            self.texts.append(schema)
        return self.texts.index(schema) + 1

    async def lookup(self, subject: str, schema: str) -> int:
        return await self.register(subject, schema)

    async def schema(self, schema_id: int) -> str:
        if schema_id > len(self.texts):
            raise UnknownSchemaError(f"no schema {schema_id}")
        return self.texts[schema_id - 1]


class Kit:
    """One group: its topics, its engines, and what its handlers did."""

    def __init__(self, settings: Settings, group: Group, registry: MemoryRegistry) -> None:
        self.settings = settings
        self.group = group
        self.family = Family(group)
        self.registry = registry
        self.codec = Codec(registry, [ORDER])
        self.options = client_options(settings)
        self.publisher = KafkaPublisher(self.options)
        self.metrics = PrometheusMetrics()

    @contextlib.asynccontextmanager
    async def engine(
        self,
        instance: str | None = None,
        consumer_class: type[KafkaGroupConsumer] = KafkaGroupConsumer,
        ledger: EffectLedger | None = None,
        **engine_options: Any,
    ) -> AsyncIterator[Engine]:
        """A running engine with its partitions taken over; stopped (drained) at the end."""
        reader, writer = KafkaLogReader(self.options), KafkaBatchWriter(self.options)
        await writer.start()
        outbox = Outbox(self.publisher)
        outbox.start()
        telemetry = Telemetry(self.group.name, self.metrics, outbox, None, self.family.dlt)
        calls = Calls(1)
        bound = calls if ledger is None else OnceCalls(calls, self._means(ledger))
        runner = Runner(self.group, self.codec, None, bound, telemetry, random.random, "test")
        consumer = consumer_class(
            self.options,
            group=self.group.name,
            topics=list(self.family.shelves),
            session_timeout=6,
            rebalance_timeout=10,
            instance=instance,
        )
        limits = Limits(concurrency=self.group.concurrency, batch=batch_of(self.group), linger=0.02)
        engine = Engine(
            self.family,
            self.group.tiers,
            limits,
            EngineOptions(**{"drain_timeout": 3.0, **engine_options}),
            consumer=consumer,
            reader=reader,
            writer=writer,
            runner=runner,
            telemetry=telemetry,
        )
        running = asyncio.create_task(engine.run())
        try:
            await first_of(engine.ready.wait(), running)
            yield engine
        finally:
            engine.stop()
            await running
            calls.close()
            await outbox.stop()
            await writer.stop()

    def _means(self, ledger: EffectLedger) -> Means:
        return Means(ledger=ledger, metrics=self.metrics, group=self.group.name, owner="test")

    @property
    def tier_topics(self) -> list[str]:
        """The retry tiers, ``retry.0`` included."""
        return [topic for topic in self.family.shelves if ".retry." in topic]

    async def codec_number(self, record: Any) -> int:
        """The order number in a record's value."""
        await self.codec.load(record.value)
        payload = self.codec.decode_now(record.value)
        assert payload is not None
        return payload.model.number

    async def publish(
        self, number: int, entity: str | None = "a", partition: int = 0, value: bytes | None = None
    ) -> None:
        await self.publish_order(Order(number=number), entity, partition, value)

    async def publish_order(
        self, order: Order, entity: str | None = "a", partition: int = 0, value: bytes | None = None
    ) -> None:
        body = await self.codec.encode(ORDER, order) if value is None else value
        headers = to_headers(Attributes(id=f"o-{order.number}", type=ORDER.name))
        key = None if entity is None else f"t/{entity}".encode()
        await self.publisher.publish(Message(self.group.source, key, body, headers, partition))


def batch_of(group: Group) -> int:
    return max((work.batch.size for work in group.works.values() if work.batch), default=1)


async def first_of(*waits: Any) -> None:
    """Wait for the first; an error of any of them is raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, _ = await asyncio.wait(tasks, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    for task in set(tasks) - done:
        if task is not tasks[-1]:
            task.cancel()
    assert done, "nothing happened for 30 s"
    for task in done:
        task.result()

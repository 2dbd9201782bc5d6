"""keylane: the engine as the worker wires it, with one handler."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any, Literal

import uvloop

from schemas.codec import Codec
from schemas.contract import Contract
from schemas.fields import Instant, PayloadModel
from schemas.job_status.model import CONTRACT as JOB_STATUS
from streams.adapters import logs
from streams.adapters.kafka.batches import KafkaBatchWriter
from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.metrics import PrometheusMetrics
from streams.app.collector import settle
from streams.core.group import Limits
from streams.core.retry import RetryPolicy
from streams.engine.calls import Calls
from streams.engine.engine import Engine, EngineOptions
from streams.engine.family import Family
from streams.engine.outbox import Outbox
from streams.engine.runner import Runner
from streams.engine.telemetry import Telemetry
from streams.engine.tracker import Tracker
from streams.history import TOPIC as STATUS_TOPIC
from streams.job import Batch, Group, Subscription
from streams.settings import Settings
from tests.bench.records import NAME, SCHEMA
from tests.bench.task import main, pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.bench.task import Task, Work

TIERS = (2.0, 30.0, 300.0)
BATCH = Batch(size=100, linger=0.05)


class Placed(PayloadModel):
    """The model of the record."""

    order_id: str
    customer_id: str
    customer_email: str
    product: str
    status: Literal["placed", "paid", "shipped"]
    amount: int
    note: str | None
    placed_at: Instant
    sent_us: int
    sequence: int


CONTRACT = Contract(name=NAME, kind="event", model=Placed, schemas=(SCHEMA,))


class Registry:
    """Schema ids by order of registration, without a server: the codec asks once per schema."""

    def __init__(self) -> None:
        self._texts = [SCHEMA]

    async def register(self, subject: str, schema: str) -> int:
        """The id of a schema."""
        del subject
        if schema not in self._texts:
            self._texts.append(schema)
        return self._texts.index(schema) + 1

    lookup = register

    async def schema(self, schema_id: int) -> str:
        """The schema of an id."""
        return self._texts[schema_id - 1]


class NoMetrics:
    """Counts nothing, for what the metrics cost."""

    def inc(self, name: str, /, amount: float = 1, **labels: str) -> None:
        """Pass over."""

    def set(self, name: str, /, value: float, **labels: str) -> None:
        """Pass over."""

    def watch(self, name: str, value: Any, /) -> None:
        """Pass over."""

    def observe(self, name: str, /, value: float, **labels: str) -> None:
        """Pass over."""

    def observe_all(self, name: str, values: Any, /, **labels: str) -> None:
        """Pass over."""


def group_of(task: Task, handler: Any, policy: RetryPolicy | None = None) -> Group:
    """One handler's group on the task's topic."""
    work = Subscription(
        name=task.group,
        contracts=(CONTRACT,),
        handler=handler,
        retry=policy or RetryPolicy(),
        batch=BATCH if task.batch else None,
    )
    tiers = tuple(task.options.get("tiers", TIERS))
    return Group(
        name=task.group,
        source=task.topic,
        tiers=tiers,
        partitions=8,
        concurrency=task.concurrency,
        works={NAME: work},
    )


def handler_of(task: Task, work: Work) -> Callable[[Any, Any], Any]:
    """The handler as a user would write it: a no-op, or one that waits, is timed or fails for the keys set aside."""
    meter, wait = work.meter, work.wait

    async def noop(payload: Placed, ctx: Any) -> None:
        meter.saw(payload.order_id, payload.sequence)

    async def full(payload: Placed, ctx: Any) -> None:
        if task.latencies:
            meter.began(payload.order_id, payload.sent_us)
        if wait:
            await asyncio.sleep(pause(wait, payload.sequence))
        if failing and payload.order_id in work.aside:
            raise OrderError
        meter.saw(payload.order_id, payload.sequence)

    failing = bool(task.options.get("failing"))
    return full if task.latencies or wait or failing else noop


class OrderError(Exception):
    """What a failing handler raises."""


def batch_handler_of(work: Work) -> Callable[[Any, Any], Any]:
    """The same for batches."""
    meter, wait = work.meter, work.wait

    async def batch(payloads: list[Placed], contexts: list[Any]) -> None:
        if wait:
            await asyncio.sleep(wait)
        for payload in payloads:
            meter.saw(payload.order_id, payload.sequence)

    return batch


@contextlib.asynccontextmanager
async def running(task: Task, group: Group) -> AsyncIterator[Engine]:
    """An engine at work, drained at the end."""
    settings = Settings(_env_file=None, kafka_bootstrap_servers=task.servers)
    kafka = client_options(settings)
    async with contextlib.AsyncExitStack() as stack:
        engine = await _wired(stack, task, group, settings, kafka)
        settle()
        working = asyncio.create_task(engine.run())
        try:
            await asyncio.wait({working, asyncio.ensure_future(engine.ready.wait())}, return_when="FIRST_COMPLETED")
            yield engine
        finally:
            engine.stop()
            await working


async def _wired(
    stack: contextlib.AsyncExitStack, task: Task, group: Group, settings: Settings, kafka: dict[str, Any]
) -> Engine:
    family = Family(group)
    publisher, writer = KafkaPublisher(kafka), KafkaBatchWriter(kafka)
    await publisher.start()
    stack.push_async_callback(publisher.stop)
    await writer.start()
    stack.push_async_callback(writer.stop)
    outbox = Outbox(publisher)
    outbox.start()
    stack.push_async_callback(outbox.stop)
    codec = Codec(Registry(), [CONTRACT, JOB_STATUS])
    tracker = None
    if task.options.get("tracking"):
        tracker = Tracker(codec, outbox, JOB_STATUS, topic=STATUS_TOPIC, queue=group.name, worker="bench")
    metrics = PrometheusMetrics() if task.options.get("metrics", True) else NoMetrics()
    telemetry = Telemetry(group.name, metrics, outbox, tracker, family.dlt)
    calls = Calls(1)
    stack.callback(calls.close)
    return Engine(
        family,
        group.tiers,
        Limits(
            concurrency=group.concurrency,
            records=settings.max_records,
            bytes=settings.max_bytes,
            batch=BATCH.size if task.batch else 1,
            linger=BATCH.linger if task.batch else 0.0,
        ),
        EngineOptions(commit_interval=settings.commit_interval, drain_timeout=settings.drain_timeout),
        consumer=KafkaGroupConsumer(
            kafka,
            group=group.name,
            topics=list(family.shelves),
            session_timeout=settings.session_timeout,
            rebalance_timeout=settings.rebalance_timeout,
        ),
        reader=KafkaLogReader(kafka),
        writer=writer,
        runner=Runner(group, codec, None, calls, telemetry, random.random, "bench"),  # type: ignore[arg-type]
        telemetry=telemetry,
    )


async def program(task: Task, work: Work) -> None:
    """Run the engine until the meter is full."""
    handler = batch_handler_of(work) if task.batch else handler_of(task, work)
    async with running(task, group_of(task, handler)):
        await work.done.wait()


if __name__ == "__main__":
    logs.configure("info")
    main(program, uvloop.run)

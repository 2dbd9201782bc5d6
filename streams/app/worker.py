"""Wires a worker: one engine per consumer group, the projection of the history, and periodic work."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import random
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from schemas.job_status.model import CONTRACT as JOB_STATUS
from streams.adapters import sql
from streams.adapters.effects import SqlEffects
from streams.adapters.kafka.batches import KafkaBatchWriter
from streams.adapters.kafka.follower import KafkaFollower
from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.kafka.offsets import KafkaGroupOffsets
from streams.adapters.mail import MeteredMail, transport
from streams.adapters.metrics import PrometheusMetrics
from streams.app.connections import Connections, connections
from streams.app.tracing import SILENT, tracing
from streams.core.group import Limits
from streams.engine.calls import Calls
from streams.engine.cancelling import Cancelling, Orders
from streams.engine.engine import Engine, EngineOptions
from streams.engine.family import Family
from streams.engine.fence import Means
from streams.engine.once import OnceCalls
from streams.engine.outbox import Outbox
from streams.engine.periodic import run_periodics
from streams.engine.recognition import Recognition
from streams.engine.runner import Runner
from streams.engine.telemetry import Telemetry
from streams.engine.traced import TracedCalls
from streams.engine.tracker import Tracker
from streams.event import Attributes, record_key, to_headers
from streams.groups import chosen, groups, history_group
from streams.history import GROUP as HISTORY
from streams.history import TOPIC as STATUS_TOPIC
from streams.job import Group, Job, Periodic
from streams.ports import Message, Position, Services
from streams.tracing.mailing import TracedMail
from streams.tracing.publishing import TracedPublisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from schemas.contract import Contract
    from streams.ports import Mail, Publisher, Tracing
    from streams.settings import Settings

_FORGET_EVERY = 600.0  # seconds
_LEDGER_PATIENCE = 5.0  # seconds: every run of a once-handler waits for it, and a dead connection must not hold all
_LEDGER_CONNECTIONS = 4  # one for each kind of its statements


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker."""

    connections: Connections
    groups: list[Group]
    engines: dict[str, Engine]
    metrics: PrometheusMetrics
    cancelling: Cancelling

    @property
    def ready(self) -> bool:
        """Whether every group has taken over its partitions."""
        return all(engine.ready.is_set() for engine in self.engines.values())

    def stop(self) -> None:
        """Drain, commit and end."""
        self.cancelling.stop()
        for engine in self.engines.values():
            engine.stop()


def chosen_groups(settings: Settings, found: Connections, names: Sequence[str]) -> list[Group]:
    """The groups to run, all of them where no names are given.

    Raises:
        CatalogueError: A name is no group's.
    """
    declared = [*groups(found.catalogue), history_group(sql.history_work(found.sql))]
    return [
        replace(group, tiers=tuple(delay * settings.tier_scale for delay in group.tiers))
        for group in chosen(declared, names)
    ]


@contextlib.asynccontextmanager
async def worker(
    settings: Settings, names: Sequence[str] = (), *, adapt: Callable[[Group], Group] = lambda group: group
) -> AsyncIterator[tuple[Worker, asyncio.Future[None]]]:
    """A worker of these groups; the future ends when all of its engines have ended, or with the first error.

    Args:
        settings: With every server named.
        names: Of groups; none means all, and periodic work as well.
        adapt: Changes a group before it runs.
    """
    async with contextlib.AsyncExitStack() as stack:
        found = await stack.enter_async_context(connections(settings))
        await sql.migrate(found.sql)
        metrics = PrometheusMetrics()
        traces = await stack.enter_async_context(tracing(settings, "keylane-worker"))
        services = _services(settings, found, metrics, traces)
        calls = Calls(os.cpu_count() or 1)
        stack.callback(calls.close)
        adapted = [adapt(group) for group in chosen_groups(settings, found, names)]
        effects, orders = _effects(stack, found), Orders()
        engines = {
            group.name: await _engine(
                stack, settings, found, group, services, calls, _means(effects, metrics, group), metrics, orders, traces
            )
            for group in adapted
        }
        periodics = () if names else (*found.catalogue.periodics, _forgetting(effects, settings.effect_retention))
        cancelling = Cancelling(orders, KafkaFollower(found.kafka), found.reader)
        running = asyncio.ensure_future(_run_all(engines, periodics, services, metrics, cancelling))
        made = Worker(found, adapted, engines, metrics, cancelling)
        try:
            yield made, running
        finally:
            made.stop()
            await asyncio.gather(running, return_exceptions=True)


async def _run_all(
    engines: dict[str, Engine],
    periodics: Sequence[Periodic],
    services: Services,
    metrics: PrometheusMetrics,
    cancelling: Cancelling,
) -> None:
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(run_periodics(periodics, services, metrics)), group.create_task(cancelling.run())]
        await cancelling.known()  # a job that was cancelled while no worker ran must not run first
        await asyncio.gather(*(group.create_task(engine.run()) for engine in engines.values()))
        for each in beside:
            each.cancel()


def _services(settings: Settings, found: Connections, metrics: PrometheusMetrics, traces: Tracing | None) -> Services:
    publisher: Publisher = found.publisher if traces is None else TracedPublisher(found.publisher, traces, SILENT)
    mail: Mail = MeteredMail(transport(settings), settings.mail_transport, metrics)

    async def emit(
        contract: Contract, payload: Any, *, tenant: str, entity: str, event_id: str, topic: str | None = None
    ) -> Position:
        headers = to_headers(Attributes(id=event_id, type=contract.name, extensions={"tenant": tenant}))
        value = await found.codec.encode(contract, payload)
        return await publisher.publish(Message(topic or contract.topic, record_key(tenant, entity), value, headers))

    return Services(
        emit=emit,
        mail=mail if traces is None else TracedMail(mail, settings.mail_transport, traces),
        redis=found.redis,
        sql=found.sql,
        log_reader=found.reader,
        group_offsets=KafkaGroupOffsets(found.kafka),
        options=found.catalogue.options,
    )


async def _engine(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    found: Connections,
    group: Group,
    services: Services,
    calls: Calls,
    means: Means,
    metrics: PrometheusMetrics,
    orders: Orders,
    traces: Tracing | None,
) -> Engine:
    family = Family(group)
    outbox = Outbox(found.publisher)
    outbox.start()
    stack.push_async_callback(outbox.stop)
    writer = KafkaBatchWriter(found.kafka)
    await writer.start()
    stack.push_async_callback(writer.stop)
    traces = None if group.name == HISTORY else traces  # it is our own book-keeping
    telemetry = Telemetry(group.name, metrics, outbox, _tracker(found, group, outbox), family.dlt, traces)
    return Engine(
        family,
        group.tiers,
        _limits(settings, group),
        EngineOptions(
            commit_interval=settings.commit_interval,
            drain_timeout=settings.drain_timeout,
            stall_timeout=settings.stall_timeout,
            aliases=settings.dlt_aliases,
        ),
        consumer=_consumer(settings, found, family),
        reader=found.reader,
        writer=writer,
        runner=Runner(
            group,
            found.codec,
            services,
            _traced(OnceCalls(calls, means, orders if _has_jobs(group) else None), group, traces),
            telemetry,
            random.random,
            _version(),
            orders=orders if _has_jobs(group) else None,
            recognition=Recognition(means),
        ),
        telemetry=telemetry,
    )


def _consumer(settings: Settings, found: Connections, family: Family) -> KafkaGroupConsumer:
    return KafkaGroupConsumer(
        found.kafka,
        group=family.group,
        topics=list(family.shelves),
        session_timeout=settings.session_timeout,
        rebalance_timeout=settings.rebalance_timeout,
        instance=settings.instance_id and f"{settings.instance_id}-{family.group}",
    )


def _tracker(found: Connections, group: Group, outbox: Outbox) -> Tracker | None:
    if not _has_jobs(group):
        return None
    return Tracker(found.codec, outbox, JOB_STATUS, topic=STATUS_TOPIC, queue=group.name, worker=_process())


def _has_jobs(group: Group) -> bool:
    return any(isinstance(work, Job) for work in group.works.values())


def _effects(stack: contextlib.AsyncExitStack, found: Connections) -> SqlEffects:
    engine = sql.connect(found.sql.url, pool_size=_LEDGER_CONNECTIONS, ping=False, patience=_LEDGER_PATIENCE)
    stack.push_async_callback(engine.dispose)
    return SqlEffects(engine)


def _means(effects: SqlEffects, metrics: PrometheusMetrics, group: Group) -> Means:
    return Means(ledger=effects, metrics=metrics, group=group.name, owner=_process())


def _traced(calls: OnceCalls, group: Group, traces: Tracing | None) -> OnceCalls | TracedCalls:
    return calls if traces is None else TracedCalls(calls, traces, group.name)


def _forgetting(effects: SqlEffects, age: float) -> Periodic:
    async def run(services: Services) -> None:
        del services  # the ledger has a connection of its own
        await effects.forget(age)

    return Periodic(name="effect-retention", every=_FORGET_EVERY, run=run)


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _limits(settings: Settings, group: Group) -> Limits:
    batches = [work.batch for work in group.works.values() if work.batch is not None]
    return Limits(
        concurrency=group.concurrency,
        records=settings.max_records,
        bytes=settings.max_bytes,
        batch=max((batch.size for batch in batches), default=1),
        linger=min((batch.linger for batch in batches), default=0.0),
    )


def _version() -> str:
    return importlib.metadata.version("keylane")

"""Wires the gateway: the broker, the registry it serves (unless another is named), the history, and the server."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import ipaddress
import os
import socket
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from pydantic import ValidationError
from yarl import URL

from schemas.catalogue import contracts
from schemas.errors import RegistryUnavailableError
from streams.adapters import sql
from streams.adapters.idempotency import RedisRequests
from streams.adapters.kafka.follower import KafkaFollower
from streams.adapters.kafka.offsets import KafkaCommits
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.metrics import PrometheusMetrics
from streams.adapters.progress import KafkaProgress
from streams.adapters.rates import RedisRates
from streams.adapters.tickets import RedisTickets
from streams.app.access import Guard, guard, modes_of
from streams.app.connections import Connections, connections
from streams.app.looks import KafkaLooks
from streams.app.probes import shown
from streams.app.tools import has_ended
from streams.app.tracing import SILENT, tracing
from streams.deadletters.entry import families
from streams.deadletters.operation import Operations
from streams.deadletters.reading import DeadLetters
from streams.deadletters.writing import Clock
from streams.gateway.acts import registrar
from streams.gateway.app import HEALTH, Parts, create_app
from streams.gateway.health import HealthCheck
from streams.gateway.limits import Limit, Limits
from streams.gateway.peers import Origins, Peers
from streams.gateway.queues import Queues
from streams.gateway.registry import registry_app
from streams.gateway.registry_log import RegistryLog
from streams.gateway.registry_store import RegistryStore
from streams.gateway.serving import Runner
from streams.groups import groups
from streams.history import GROUP, TOPIC
from streams.live.feed import Feed
from streams.live.reading import Reading
from streams.live.rewind import Rewind
from streams.rates import LocalRates
from streams.settings import SettingsError
from streams.tracing.publishing import TracedPublisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from schemas.codec import Codec
    from streams.gateway.app import ShownMetrics
    from streams.ports import Tracing
    from streams.settings import Settings

# Seconds; somebody waits for the answer. What Redis does not say at once is done without, or refused.
_PATIENCE = {"redis_patience": 0.5, "sql_patience": 2.0}
_log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def gateway(settings: Settings, process: int | None = None) -> AsyncIterator[str]:
    """A serving gateway; gives its URL. On leaving, requests under way are given time to end.

    Args:
        settings: With every server named.
        process: Its number where several processes share the port; None where it is the only one.

    Raises:
        SettingsError: A server is not named, the address is not a loopback one, or a port is taken.
        CatalogueError: The deployment's declarations cannot be loaded.
        TransientError: The broker or the database cannot be reached.
    """
    url = url_of(settings)
    async with contextlib.AsyncExitStack() as stack:
        store = None if settings.schema_registry_url else await _store(stack, settings)
        traces = await stack.enter_async_context(tracing(settings, "keylane-gateway"))
        await _migrate(settings)
        found = await stack.enter_async_context(connections(settings, store, **_PATIENCE))
        await _register(found.codec)
        progress = KafkaProgress(found.kafka, group=GROUP, topic=TOPIC)
        stack.push_async_callback(progress.stop)
        metrics = PrometheusMetrics()
        guarding = await stack.enter_async_context(guard(settings, found, metrics))
        events = await _events(stack, settings)
        parts = _parts(settings, found, progress, store, events, url, metrics, guarding)
        app = create_app(parts if traces is None else _traced(parts, traces))
        _check_routes(settings, app)
        await stack.enter_async_context(_shown(app, parts.shown, settings, process or 0))
        await stack.enter_async_context(_served(app, settings, shared=process is not None))
        yield url


def check_port(settings: Settings) -> None:
    """Make sure that the port is free, before several processes share it with whoever does not mind.

    Raises:
        SettingsError: It is taken.
    """
    host, port = settings.gateway_host, settings.gateway_port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind(address)
    except OSError as error:
        raise _unusable("KEYLANE_GATEWAY_PORT", host, port, error) from error


def url_of(settings: Settings) -> str:
    """Where clients reach the gateway.

    Raises:
        SettingsError: The address can be reached from other machines, and the settings do not allow that.
    """
    host, unguarded = settings.gateway_host, modes_of(settings).open
    if unguarded is not None and host != "localhost" and not _is_loopback(host) and not settings.gateway_allow_open:
        where = f"{unguarded} (KEYLANE_GATEWAY_AUTH_ROUTES)" if unguarded else "by default (KEYLANE_GATEWAY_AUTH)"
        raise SettingsError(
            f"KEYLANE_GATEWAY_HOST: {host} can be reached from other machines, but callers need no credentials "
            f"{where}: use the modes key, hmac or jwt there; or bind to 127.0.0.1 or ::1 and put an authenticating "
            "proxy in front; or, if something else keeps strangers away, set KEYLANE_GATEWAY_ALLOW_OPEN=true"
        )
    return settings.public_url or str(URL.build(scheme="http", host=host, port=settings.gateway_port))


def _check_routes(settings: Settings, app: web.Application) -> None:
    strays = modes_of(settings).strays(resource.canonical for resource in app.router.resources())
    if strays:
        raise SettingsError(f"KEYLANE_GATEWAY_AUTH_ROUTES: {strays[0]} is no route, nor the beginning of one")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _migrate(settings: Settings) -> None:
    # A migration, or waiting for another process that makes it, may take longer than anybody waits for an answer.
    if settings.database_url is None:
        return
    engine = sql.connect(settings.database_url.get_secret_value(), pool_size=1)
    try:
        await sql.migrate(engine)
    finally:
        await engine.dispose()


async def _events(stack: contextlib.AsyncExitStack, settings: Settings) -> KafkaPublisher | None:
    if settings.event_acks == "all":
        return None
    publisher = KafkaPublisher(client_options(settings), acks=1)
    stack.push_async_callback(publisher.stop)
    await publisher.start()
    return publisher


async def _store(stack: contextlib.AsyncExitStack, settings: Settings) -> RegistryStore:
    options = client_options(settings)
    publisher = KafkaPublisher(options)
    stack.push_async_callback(publisher.stop)
    await publisher.start()
    return RegistryStore(RegistryLog(publisher, KafkaLogReader(options)))


async def _register(codec: Codec) -> None:
    try:
        await codec.register()
    except RegistryUnavailableError as error:
        _log.warning("contracts are registered later, on first use", reason=str(error))


def _parts(
    settings: Settings,
    found: Connections,
    progress: KafkaProgress,
    store: RegistryStore | None,
    events: KafkaPublisher | None,
    url: str,
    metrics: PrometheusMetrics,
    guarding: Guard,
) -> Parts:
    peers = Peers(settings.trusted_proxies)
    history = sql.SqlHistory(found.sql)
    reading = Reading(found.codec, metrics)
    letters = DeadLetters(found.reader, families(groups(found.catalogue)), max_replays=settings.max_replays)
    return Parts(
        publisher=found.publisher,
        codec=found.codec,
        contracts=contracts(),
        catalogue=found.catalogue,
        history=history,
        progress=progress,
        letters=letters,
        operations=partial(_operations, letters, found),
        looks=KafkaLooks(settings),
        feed=_feed(settings, found, reading, metrics),
        rewind=Rewind(found.reader, reading),
        tickets=RedisTickets(found.redis),
        queues=_queues(found, history),
        redis=found.redis,
        requests=RedisRequests(found.redis),
        events=events,
        idempotency_keep=settings.idempotency_ttl,
        body_patience=settings.body_timeout,
        unacknowledged=settings.max_unacknowledged,
        unacknowledged_bytes=settings.max_unacknowledged_bytes,
        metrics=metrics,
        shown=metrics,
        base_url=url,
        version=importlib.metadata.version("keylane"),
        max_body_bytes=settings.max_body_bytes,
        access=guarding.access,
        audit=guarding.audit,
        keyring=guarding.keyring,
        limits=_limits(settings, found.redis, peers),
        peers=peers,
        origins=Origins(settings.cors_origins),
        registry=None if store is None else registry_app(store, registrar(guarding.access, guarding.audit)),
        checks=_checks(found, progress),
    )


def _feed(settings: Settings, found: Connections, reading: Reading, metrics: PrometheusMetrics) -> Feed:
    follower = KafkaFollower(found.kafka)
    return Feed(follower, found.reader, reading, _live_topics(), metrics, most=settings.live_subscribers)


def _checks(found: Connections, progress: KafkaProgress) -> tuple[HealthCheck, ...]:
    return (
        HealthCheck("kafka", progress.ping),
        HealthCheck("postgres", lambda: sql.ping(found.sql), needed=False),
        HealthCheck("redis", found.redis.ping, needed=False),
    )


def _queues(found: Connections, history: sql.SqlHistory) -> Queues:
    names = {queue.name for queue in found.catalogue.queues}
    mine = [group for group in groups(found.catalogue) if group.name in names]
    return Queues(
        mine, found.reader, lambda group: KafkaCommits(found.kafka, group), history.unfinished, time.monotonic
    )


def _traced(parts: Parts, traces: Tracing) -> Parts:
    events = None if parts.events is None else TracedPublisher(parts.events, traces, SILENT)
    return replace(parts, tracing=traces, publisher=TracedPublisher(parts.publisher, traces, SILENT), events=events)


def _limits(settings: Settings, redis: Redis, peers: Peers) -> Limits:
    try:
        limits = [Limit.model_validate(each) for each in settings.limits]
    except ValidationError as error:
        found = error.errors()[0]
        place = "/".join(map(str, found["loc"]))
        raise SettingsError(f"KEYLANE_LIMITS: {place}: {found['msg']} (see docs/gateway.md)") from None
    clock = time.monotonic
    return Limits(limits, RedisRates(redis), LocalRates(clock), address=peers.address, clock=clock)


def _operations(letters: DeadLetters, found: Connections, caller: str) -> Operations:
    clock = Clock(time.time, time.monotonic, asyncio.sleep)
    by = f"{caller}@{socket.gethostname()}:{os.getpid()}"
    return Operations(letters, found.publisher, clock, by=by, ended=has_ended)


def _live_topics() -> set[str]:
    return {TOPIC, *(contract.topic for contract in contracts() if contract.kind == "event")}


@contextlib.asynccontextmanager
async def _served(app: web.Application, settings: Settings, *, shared: bool) -> AsyncIterator[None]:
    runner = Runner(app, shutdown_timeout=settings.drain_timeout)
    await runner.setup()
    host, port = settings.gateway_host, settings.gateway_port
    try:
        try:
            await web.TCPSite(runner, host, port, reuse_port=shared).start()
        except OSError as error:
            raise _unusable("KEYLANE_GATEWAY_PORT", host, port, error) from error
        app[HEALTH].started = True
        yield
    finally:
        app[HEALTH].stopping = True
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _shown(app: web.Application, metrics: ShownMetrics, settings: Settings, process: int) -> AsyncIterator[None]:
    """The process's own metrics and health: where several share a port, any of them answers there."""
    if settings.gateway_metrics_port is None:
        yield
        return
    host, port = settings.gateway_host, settings.gateway_metrics_port + process
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(shown(metrics, app[HEALTH], host, port))
        except OSError as error:
            raise _unusable("KEYLANE_GATEWAY_METRICS_PORT", host, port, error) from error
        yield


def _unusable(setting: str, host: str, port: int, error: OSError) -> SettingsError:
    return SettingsError(
        f"{setting}: port {port} of {host} cannot be used ({os.strerror(error.errno or 0)}); choose another one"
    )

"""Looks at everything a deployment stands on and hands it to the judges of ``streams/doctor``.

Invariant: looking changes nothing, and what cannot be looked at is a finding of its own, never a gap in the list.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections import defaultdict
from contextlib import aclosing
from typing import TYPE_CHECKING

from schemas.catalogue import contracts
from schemas.errors import RegistryUnavailableError, SchemaRefusedError, UnknownSchemaError
from schemas.registry import RegistryClient
from streams.adapters import redis, sql
from streams.adapters.kafka import cluster
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.topics import TopicAdmin
from streams.catalogue import load_catalogue
from streams.dev import state
from streams.doctor import brokers, servers, topics
from streams.doctor.finding import fail
from streams.doctor.topics import kept_ms
from streams.groups import CatalogueError, groups, history_group
from streams.job import TransientError
from streams.settings import SettingsError
from streams.topics import wanted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from streams.doctor.finding import Finding
    from streams.doctor.servers import Clock
    from streams.settings import Settings

    Findings = AsyncGenerator[Iterable[Finding]]
    Look = Callable[[Settings], Findings]

_PATIENCE = 20.0  # seconds for each of the things looked at


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order of the checks."""
    checks: tuple[tuple[str, Look, str], ...] = (
        ("settings", _settings, "correct the variable"),
        ("kafka", _kafka, "start the brokers, correct KEYLANE_KAFKA_…, or let our user describe cluster and topics"),
        ("registry", _registry, "start the gateway, or name a registry in KEYLANE_SCHEMA_REGISTRY_URL"),
        ("redis", _redis, "start it, or correct KEYLANE_REDIS_URL"),
        ("postgres", _postgres, "start it, or correct KEYLANE_DATABASE_URL"),
        ("disk", _disk, "make the folder readable"),
    )
    found = await asyncio.gather(*(_guarded(settings, *check) for check in checks))
    return [finding for findings in found for finding in findings]


async def _guarded(settings: Settings, name: str, look: Look, advice: str) -> list[Finding]:
    found: list[Finding] = []
    try:
        async with asyncio.timeout(_PATIENCE), aclosing(look(settings)) as batches:
            async for findings in batches:
                found += findings
    except TimeoutError:
        found.append(fail(name, f"no answer within {_PATIENCE:g} s", advice))
    except (CatalogueError, OSError, RegistryUnavailableError, SettingsError, TransientError) as error:
        found.append(fail(name, str(error), advice))
    return found


async def _settings(settings: Settings) -> Findings:
    yield servers.judge_settings(settings)
    groups(load_catalogue(settings))


async def _kafka(settings: Settings) -> Findings:
    options, catalogue = client_options(settings), load_catalogue(settings)
    declared = wanted(catalogue, contracts(), settings.replication_factor)
    known = (*groups(catalogue), history_group())
    found = await cluster.look(options, {topic.name for topic in declared})
    kept = [kept_ms(found.topics.get(group.source)) for group in known]
    yield brokers.judge_brokers(found.brokers, settings, max((one for one in kept if one < math.inf), default=0.0))
    yield topics.judge_plan(await TopicAdmin(options).plan(declared), len(declared))
    yield topics.judge_retention(known, found.topics, settings.tier_scale)
    yield topics.judge_replicas(found.topics, settings.replication_factor)
    yield topics.judge_sizes(known, found.topics, settings.max_body_bytes)


async def _registry(settings: Settings) -> Findings:
    client = RegistryClient(settings.registry_url)
    standing: defaultdict[str, list[str]] = defaultdict(list)
    try:
        for contract in contracts():
            for number, schema in enumerate(contract.schemas, 1):
                found = await _registered(client, contract.fullname, schema)
                standing[found].append(f"{contract.fullname} v{number}")
    finally:
        await client.close()
    yield servers.judge_registry(
        settings.registry_url, len(standing["known"]), standing["unknown"], standing["refused"]
    )


async def _registered(client: RegistryClient, subject: str, schema: str) -> str:
    try:
        await client.lookup(subject, schema)
    except SchemaRefusedError:
        return "refused"
    except UnknownSchemaError:
        return "unknown" if await client.compatible(subject, schema) else "refused"
    return "known"


async def _redis(settings: Settings) -> Findings:
    if not settings.redis_url:
        raise SettingsError("KEYLANE_REDIS_URL: name a server, or start the embedded one (keylane dev up)")
    client = redis.connect(settings.redis_url, cafile=settings.redis_ssl_cafile)
    try:
        yield servers.judge_redis(*await redis.facts(client))
        yield [servers.judge_clock(await _clock("redis", lambda: redis.now(client)))]
    finally:
        await client.aclose()


async def _postgres(settings: Settings) -> Findings:
    if settings.database_url is None:
        raise SettingsError("KEYLANE_DATABASE_URL: name a server, or start the embedded one (keylane dev up)")
    engine = sql.connect(settings.database_url.get_secret_value())
    try:
        yield [servers.judge_database(*await sql.facts(engine))]
        yield [servers.judge_clock(await _clock("postgres", lambda: sql.now(engine)))]
    finally:
        await engine.dispose()


async def _clock(server: str, ask: Callable[[], Awaitable[float]]) -> Clock:
    before = time.time()
    there = await ask()
    after = time.time()
    return servers.Clock(server, there - (before + after) / 2, (after - before) / 2)


async def _disk(settings: Settings) -> Findings:
    if state.running(settings.data_dir) is not None:
        folder = settings.data_dir.absolute()
        yield [servers.judge_disk(str(folder), shutil.disk_usage(folder).free)]

"""The connections every process needs, made from the settings and closed in the reverse order."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.catalogue import contracts
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streams.adapters import redis, sql
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.catalogue import load_catalogue
from streams.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

    from schemas.registry import Registry
    from streams.job import Catalogue
    from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Connections:
    """What is shared inside one process."""

    catalogue: Catalogue
    kafka: dict[str, Any]
    publisher: KafkaPublisher
    reader: KafkaLogReader
    codec: Codec
    redis: Redis
    sql: AsyncEngine


@contextlib.asynccontextmanager
async def connections(
    settings: Settings, registry: Registry | None = None, *, redis_patience: float = 2.0, sql_patience: float = 30.0
) -> AsyncIterator[Connections]:
    """Connect.

    Args:
        settings: With every server named.
        registry: Replaces the client of the registry named by the settings.
        redis_patience: Seconds until an answer counts as lost, which is asked for three times.
        sql_patience: Seconds until a statement counts as failed.

    Raises:
        SettingsError: A server is neither named nor embedded.
        CatalogueError: The deployment's declarations cannot be loaded.
        TransientError: The broker cannot be reached.
    """
    redis_url, database_url = _named(settings)
    async with contextlib.AsyncExitStack() as stack:
        kafka = client_options(settings)
        publisher = KafkaPublisher(kafka)
        stack.push_async_callback(publisher.stop)
        await publisher.start()
        if registry is None:
            registry = client = RegistryClient(settings.registry_url)
            stack.push_async_callback(client.close)
        cache = redis.connect(redis_url, cafile=settings.redis_ssl_cafile, timeout=redis_patience)
        stack.push_async_callback(cache.aclose)
        engine = sql.connect(database_url, patience=sql_patience)
        stack.push_async_callback(engine.dispose)
        yield Connections(
            catalogue=load_catalogue(settings),
            kafka=kafka,
            publisher=publisher,
            reader=KafkaLogReader(kafka),
            codec=Codec(registry, contracts()),
            redis=cache,
            sql=engine,
        )


def _named(settings: Settings) -> tuple[str, str]:
    if not settings.redis_url:
        raise SettingsError("KEYLANE_REDIS_URL: name a server, or start the embedded one (keylane dev up)")
    if settings.database_url is None:
        raise SettingsError("KEYLANE_DATABASE_URL: name a server, or start the embedded one (keylane dev up)")
    return settings.redis_url, settings.database_url.get_secret_value()

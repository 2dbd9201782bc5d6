"""What a process shows of itself over HTTP: ``/metrics``, the health probes, a worker also what it holds of a key.

Invariant: asking changes nothing.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from streams.adapters import sql
from streams.adapters.kafka.partitioning import partition_of
from streams.core.standing import in_memory
from streams.gateway.health import Health, HealthCheck

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streams.app.worker import Worker
    from streams.gateway.app import ShownMetrics


@contextlib.asynccontextmanager
async def probes(worker: Worker, host: str, port: int | None) -> AsyncIterator[None]:
    """Serve a worker's while inside, with its lanes at ``/lanes/<key>``; nothing where no port is given.

    Raises:
        OSError: The port is taken.
    """
    if port is None:
        yield
        return
    health = Health(_checks(worker), importlib.metadata.version("keylane"))
    health.started = True

    async def lanes(request: web.Request) -> web.Response:
        return web.json_response(held(worker, request.match_info["key"].encode()))

    async with shown(worker.metrics, health, host, port, web.get("/lanes/{key:.+}", lanes)):
        yield


@contextlib.asynccontextmanager
async def shown(
    metrics: ShownMetrics, health: Health, host: str, port: int, *more: web.RouteDef
) -> AsyncIterator[None]:
    """Serve metrics and health of this process, and more routes, while inside.

    Raises:
        OSError: The port is taken.
    """
    runner = web.AppRunner(_app(metrics, health, more), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


def _checks(worker: Worker) -> list[HealthCheck]:
    async def engines() -> None:
        waiting = sorted(name for name, engine in worker.engines.items() if not engine.ready.is_set())
        if waiting:
            raise RuntimeError(f"no partitions taken over: {', '.join(waiting)}")

    return [
        HealthCheck("engines", engines),
        HealthCheck("postgres", lambda: sql.ping(worker.connections.sql), needed=False),
        HealthCheck("redis", worker.connections.redis.ping, needed=False),
    ]


def held(worker: Worker, key: bytes) -> dict[str, Any]:
    """What each group's engine holds of the key; None where its partition is another worker's."""
    found = {
        group.name: in_memory(worker.engines[group.name].core, partition_of(key, group.partitions), key)
        for group in worker.groups
    }
    return {name: None if standing is None else asdict(standing) for name, standing in found.items()}


def _app(metrics: ShownMetrics, health: Health, more: Sequence[web.RouteDef]) -> web.Application:
    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": metrics.content_type})

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", show),
            web.get("/health", health.get_health),
            web.get("/health/live", health.get_live),
            web.get("/health/ready", health.get_ready),
            web.get("/health/startup", health.get_startup),
            *more,
        ]
    )
    return app

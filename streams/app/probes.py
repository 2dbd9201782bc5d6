"""What a worker shows over HTTP: ``/metrics``, the health probes, and at ``/lanes/<key>`` what it holds of a key.

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
    from collections.abc import AsyncIterator

    from streams.app.worker import Worker


@contextlib.asynccontextmanager
async def probes(worker: Worker, host: str, port: int | None) -> AsyncIterator[None]:
    """Serve while inside; nothing where no port is given.

    Raises:
        OSError: The port is taken.
    """
    if port is None:
        yield
        return
    health = Health(_checks(worker), importlib.metadata.version("keylane"))
    health.started = True
    runner = web.AppRunner(_app(worker, health), access_log=None)
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


def _app(worker: Worker, health: Health) -> web.Application:
    metrics = worker.metrics

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": metrics.content_type})

    async def lanes(request: web.Request) -> web.Response:
        return web.json_response(held(worker, request.match_info["key"].encode()))

    app = web.Application()
    app.router.add_get("/metrics", show)
    app.router.add_get("/lanes/{key:.+}", lanes)
    app.router.add_get("/health", health.get_health)
    app.router.add_get("/health/live", health.get_live)
    app.router.add_get("/health/ready", health.get_ready)
    app.router.add_get("/health/startup", health.get_startup)
    return app

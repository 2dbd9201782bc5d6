"""What a worker shows over HTTP: ``/metrics`` and the health probes, for Prometheus and the orchestrator."""

from __future__ import annotations

import contextlib
import importlib.metadata
from typing import TYPE_CHECKING

from aiohttp import web

from streams.adapters import sql
from streams.gateway.health import Health, HealthCheck

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.adapters.metrics import PrometheusMetrics
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
    runner = web.AppRunner(_app(health, worker.metrics), access_log=None)
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


def _app(health: Health, metrics: PrometheusMetrics) -> web.Application:
    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": metrics.content_type})

    app = web.Application()
    app.router.add_get("/metrics", show)
    app.router.add_get("/health", health.get_health)
    app.router.add_get("/health/live", health.get_live)
    app.router.add_get("/health/ready", health.get_ready)
    app.router.add_get("/health/startup", health.get_startup)
    return app

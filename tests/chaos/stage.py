"""What all scenarios of a run share: the brokers, Redis, PostgreSQL, and the gateway with its schema registry.

Invariant: leaving the block ends every process.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from streams.dev import ports, postgres, redis
from tests.chaos import processes
from tests.chaos.cluster import HOST, Cluster
from tests.chaos.processes import KEYLANE, ROOT, Child
from tests.chaos.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from streams.dev.server import Server

_DEPLOYMENT = ROOT / "tests" / "chaos" / "deployment"


@dataclass(frozen=True, slots=True)
class Network:
    """What lies between the workers and one kind of server, and the settings that lead workers through it."""

    proxies: Sequence[Proxy]
    settings: Mapping[str, str]


class Stage:
    """The servers, and the environment of processes that use them.

    Args:
        folder: Of this stage alone: data, logs, and the packages its processes import.
        brokers: How many; from three on every topic has as many replicas.
    """

    def __init__(self, folder: Path, brokers: int = 1) -> None:
        self.folder = folder
        self.brokers = brokers
        self.kafka = Cluster(folder, brokers)
        self._ports = {name: ports.any_free() for name in ("redis", "postgres", "gateway")}
        self.redis = redis.prepare(folder / "redis", folder / "logs" / "redis.log", port=self._ports["redis"])
        self.postgres: Server | None = None
        self._gateway: Child | None = None

    async def __aenter__(self) -> Self:
        """Start everything."""
        _lay_out(self.folder)
        try:
            await asyncio.gather(self.kafka.start(), processes.started(self.redis), self._start_postgres())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything."""
        if self._gateway is not None:
            self._gateway.kill()
        servers = [server for server in (self.redis, self.postgres) if server is not None]
        await asyncio.gather(self.kafka.stop(), *(asyncio.to_thread(server.stop) for server in servers))

    @asynccontextmanager
    async def network(self, server: str) -> AsyncIterator[Network]:
        """Proxies before ``kafka``, ``redis`` or ``sql``, for workers to go through."""
        port = ports.any_free()
        proxies, settings = {
            "kafka": (
                [Proxy(each.advertised, each.proxied) for each in self.kafka.ports],
                {"kafka_bootstrap_servers": self.kafka.proxied},
            ),
            "redis": ([Proxy(port, self._ports["redis"])], {"redis_url": _redis_url(port)}),
            "sql": ([Proxy(port, self._ports["postgres"])], {"database_url": postgres.url(port)}),
        }[server]
        async with AsyncExitStack() as stack:
            yield Network([await stack.enter_async_context(proxy) for proxy in proxies], settings)

    @asynccontextmanager
    async def own_redis(self, name: str) -> AsyncIterator[tuple[Server, str]]:
        """A Redis that no other run uses, and its URL."""
        port = ports.any_free()
        server = redis.prepare(self.folder / f"{name}-data", self.folder / "logs" / f"{name}.log", port=port)
        try:
            await processes.started(server)
            yield server, _redis_url(port)
        finally:
            await asyncio.to_thread(server.stop)

    async def serve_registry(self, environment: Mapping[str, str]) -> None:
        """Start the gateway, once there are topics; nothing happens where it runs."""
        if self._gateway is None:
            self._gateway = Child([*KEYLANE, "gateway"], environment, self.folder / "logs" / "gateway.log")
            self._gateway.start()
        await self._gateway.said(b"gateway started")

    def environment(self, data: Path, **settings: object) -> dict[str, str]:
        """The environment of a process of ours with its data in ``data``."""
        named = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.direct,
            "REDIS_URL": _redis_url(self._ports["redis"]),
            "DATABASE_URL": postgres.url(self._ports["postgres"]),
            "GATEWAY_PORT": self._ports["gateway"],
            "CATALOGUE": "tests.chaos.catalogue:discover",
            "DATA_DIR": data,
            "REPLICATION_FACTOR": self.brokers,
            **{name.upper(): value for name, value in settings.items()},
        }
        return {
            **{f"KEYLANE_{name}": str(value) for name, value in named.items()},
            "PYTHONPATH": f"{self.folder / 'packages'}:{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "",  # workers start again and again: compile once
        }

    async def _start_postgres(self) -> None:
        folder, log = self.folder / "postgres", self.folder / "logs" / "postgres.log"
        self.postgres = await asyncio.to_thread(postgres.prepare, folder, log, port=self._ports["postgres"])
        await processes.started(self.postgres)


def _redis_url(port: int) -> str:
    return f"redis://{HOST}:{port}/0"


def _lay_out(folder: Path) -> None:
    """A deployment of its own: our contracts with the ones of the chaos runs beside them."""
    target = folder / "packages" / "schemas"
    shutil.copytree(ROOT / "schemas", target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    shutil.copytree(_DEPLOYMENT / "schemas", target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)

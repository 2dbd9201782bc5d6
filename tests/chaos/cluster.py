"""One or three real Kafka brokers, each with a listener for the harness and one that is reached through a proxy.

Invariant: every broker can be killed and started again on its own data.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.dev import jars, ports
from streams.dev.kafka import KafkaBroker, new_cluster_id
from tests.chaos import processes

if TYPE_CHECKING:
    from pathlib import Path

    import psutil

    from streams.dev.server import Server

HOST = ports.HOST
_PROTOCOLS = "DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT"


@dataclass(frozen=True, slots=True)
class Ports:
    """Of one broker; ``advertised`` is where its proxy listens."""

    direct: int
    proxied: int
    controller: int
    advertised: int

    @classmethod
    def free(cls) -> Ports:
        """Ports nobody uses."""
        return cls(*(ports.any_free() for _ in range(4)))


class Cluster:
    """Brokers ``0`` to ``size - 1``."""

    def __init__(self, folder: Path, size: int) -> None:
        self.ports = [Ports.free() for _ in range(size)]
        voters = ",".join(f"{n}@{HOST}:{each.controller}" for n, each in enumerate(self.ports))
        identity = new_cluster_id()
        self._brokers = [
            KafkaBroker(
                jars.fetch(jars.cache_dir(), print),
                folder / f"kafka-{n}",
                folder / "logs" / f"kafka-{n}.log",
                port=each.direct,
                controller_port=each.controller,
                properties=_properties(n, each, voters, size),
                cluster=identity,
            )
            for n, each in enumerate(self.ports)
        ]
        self._servers: list[Server | None] = [None] * size

    @property
    def direct(self) -> str:
        """Bootstrap servers without a proxy."""
        return ",".join(f"{HOST}:{each.direct}" for each in self.ports)

    @property
    def proxied(self) -> str:
        """Bootstrap servers through the proxies."""
        return ",".join(f"{HOST}:{each.advertised}" for each in self.ports)

    async def start(self) -> None:
        """Start all brokers, at once: a quorum is needed before any is ready."""
        await asyncio.gather(*(self.revive(n) for n in range(len(self._brokers))))

    async def revive(self, number: int) -> None:
        """Start one broker and wait until it serves."""
        server = await asyncio.to_thread(self._brokers[number].prepare)
        self._servers[number] = server
        await processes.started(server)

    def kill(self, number: int) -> None:
        """``kill -9`` one broker."""
        processes.kill(self._running(number))

    def process(self, number: int) -> psutil.Process:
        """The Java process of one broker."""
        return processes.behind_guard(self._running(number))

    async def stop(self) -> None:
        """Stop all brokers, at once."""
        running = [server for server in self._servers if server is not None]
        await asyncio.gather(*(asyncio.to_thread(server.stop) for server in running))

    def _running(self, number: int) -> Server:
        server = self._servers[number]
        assert server is not None
        return server


def _properties(number: int, own: Ports, voters: str, size: int) -> dict[str, str]:
    replicas, in_sync = str(size), str(max(1, size - 1))
    return {
        "node.id": str(number),
        "controller.quorum.voters": voters,
        "listeners": f"DIRECT://{HOST}:{own.direct},PROXIED://{HOST}:{own.proxied},CONTROLLER://{HOST}:{own.controller}",
        "advertised.listeners": f"DIRECT://{HOST}:{own.direct},PROXIED://{HOST}:{own.advertised}",
        "inter.broker.listener.name": "DIRECT",
        "listener.security.protocol.map": _PROTOCOLS,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "share.coordinator.state.topic.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        # A dead broker loses its leaderships within seconds.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }

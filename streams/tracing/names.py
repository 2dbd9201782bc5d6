"""All spans keylane makes, and their attributes, in one table; names are OpenTelemetry's (messaging 1.44, HTTP 1.44).

Invariant: a span has no attribute outside its row, and none holds a secret, a payload or the text of an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.ports import SpanKind


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A row of the table; ``sometimes`` are the attributes that not every such span has."""

    name: str
    kind: SpanKind
    about: str
    always: tuple[str, ...]
    sometimes: tuple[str, ...] = ()


TABLE = (
    SpanRow(
        "{method} {route}",
        "server",
        "a request to the gateway, with the pattern of its route",
        ("http.request.method", "http.response.status_code", "url.path", "url.scheme", "network.protocol.version"),
        ("http.route", "user_agent.original", "keylane.request.id", "error.type"),
    ),
    SpanRow(
        "send {topic}",
        "producer",
        "a record on its way to the broker, until it is acknowledged",
        ("messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.destination.name"),
        (
            "messaging.destination.partition.id",
            "messaging.kafka.message.key",
            "messaging.kafka.offset",
            "messaging.message.id",
            "cloudevents.event_type",
            "error.type",
        ),
    ),
    SpanRow(
        "process {topic}",
        "consumer",
        "a run of a handler, with the topic this run's record was read from",
        (
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.consumer.group.name",
            "cloudevents.event_type",
            "keylane.outcome",
        ),
        (
            "messaging.batch.message_count",
            "messaging.destination.partition.id",
            "messaging.kafka.message.key",
            "messaging.kafka.offset",
            "messaging.message.id",
            "keylane.attempt",
            "error.type",
        ),
    ),
    SpanRow(
        "commit {topic}",
        "client",
        "a commit of a group, over the partitions of its topic and of the retry topics that belong to it",
        (
            "messaging.system",
            "messaging.operation.name",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.consumer.group.name",
        ),
        ("error.type",),
    ),
    SpanRow(
        "send e-mail",
        "client",
        "an e-mail that is handed over",
        ("keylane.mail.transport",),
        ("error.type",),
    ),
)

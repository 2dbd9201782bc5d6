"""The headers of a dead letter: what failed, why, how often, and the names other tools look for.

Invariant: each header stands once; what is added to a record stays below ``HEADER_ROOM`` bytes, whatever the failure
says; user headers are kept as they are.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streams.core import headers as h
from streams.core.redaction import head, one_line, redacted, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Classification = Literal["undecodable", "unknown-type", "rejected", "final", "exhausted", "outcome-unknown", "follower"]

HEADER_ROOM = 32_768  # bytes of names and values a dead letter may add to a record
STACK_ROOM = 8_192  # bytes; the tail is kept, it names the error
MESSAGE_ROOM = 1_024
NAME_ROOM = 512

SPRING = (
    "kafka_original-topic",
    "kafka_original-partition",
    "kafka_original-offset",
    "kafka_original-timestamp",
    "kafka_dlt-original-consumer-group",
    "kafka_exception-fqcn",
    "kafka_exception-message",
    "kafka_exception-stacktrace",
)
KAFKA_STREAMS = (
    "__streams.errors.exception",
    "__streams.errors.message",
    "__streams.errors.stacktrace",
    "__streams.errors.topic",
    "__streams.errors.partition",
    "__streams.errors.offset",
)
ALIASES = (*SPRING, *KAFKA_STREAMS)

# What describes one failure; the next failure, or the absence of one, replaces all of it.
OF_ONE_FAILURE = (h.EXCEPTION, h.MESSAGE, h.STACK, h.CLASSIFICATION, h.LAST_FAILURE, h.HANDLER, h.DUE)

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a record is given up.

    Attributes:
        topic: Where the failed record was read, with partition, offset and timestamp (ms): its origin,
            unless its headers name one.
        attempts: Runs in all, the failed one included.
        time: Of the failure, ms since the epoch; the first failure's too, unless the headers name one.
        exception: Full class name, ``package.module.Class``.
        stack: Formats the traceback, ``""`` where nothing was raised; of a failure that is retried nobody asks for it.
        version: Of the program that gave up.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    group: str
    handler: str
    attempts: int
    time: int
    exception: str
    message: str
    stack: Callable[[], str]
    classification: Classification
    version: str


@dataclass(frozen=True, slots=True)
class _Story:
    """What both our headers and the aliases tell."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    exception: str
    message: str
    stack: str


def dead_letter_headers(
    record_headers: Sequence[tuple[str, bytes]], failure: Failure, *, aliases: bool
) -> list[tuple[str, bytes]]:
    """The headers of the dead letter of a record with ``record_headers``; user headers first, in their order.

    Args:
        record_headers: Of the failed record; ``kl-origin-*``, ``kl-first-failure`` and ``kl-replays`` in it are kept.
        failure: Why it is given up.
        aliases: Whether to add Spring's and Kafka Streams' names, as far as ``HEADER_ROOM`` allows.
    """
    story = _story(record_headers, failure)
    values: dict[str, str | bytes | None] = dict.fromkeys((*OF_ONE_FAILURE, *(ALIASES if aliases else ())))
    values |= _facts(record_headers, failure, story)
    left = HEADER_ROOM - sum(len(name) + len(value or "") for name, value in values.items())
    for name, value in _details(failure, story, aliases=aliases):
        size = len(name) + len(value)
        if size <= left:
            values[name] = value
            left -= size
    return h.replaced(record_headers, values)


def _facts(
    record_headers: Sequence[tuple[str, bytes]], failure: Failure, story: _Story
) -> dict[str, str | bytes | None]:
    first = h.number(record_headers, h.FIRST_FAILURE)
    return {
        h.ORIGIN_TOPIC: story.topic,
        h.ORIGIN_PARTITION: str(story.partition),
        h.ORIGIN_OFFSET: str(story.offset),
        h.ORIGIN_TIMESTAMP: str(story.timestamp),
        h.GROUP: failure.group,
        h.HANDLER: head(failure.handler, NAME_ROOM),
        h.ATTEMPTS: str(failure.attempts),
        h.FIRST_FAILURE: str(failure.time if first is None else first),
        h.LAST_FAILURE: str(failure.time),
        h.EXCEPTION: story.exception,
        h.CLASSIFICATION: failure.classification,
        h.VERSION: head(failure.version, NAME_ROOM),
        h.TRACE: trace_id(record_headers),
        h.REPLAYS: str(h.number(record_headers, h.REPLAYS) or 0),
    }


def _story(record_headers: Sequence[tuple[str, bytes]], failure: Failure) -> _Story:
    topic, partition, offset, timestamp = _origin(record_headers, failure)
    return _Story(
        topic=head(topic, NAME_ROOM),
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        exception=head(one_line(failure.exception), NAME_ROOM),
        message=head(one_line(redacted(failure.message, MESSAGE_ROOM)), MESSAGE_ROOM),
        stack=tail(redacted(failure.stack(), STACK_ROOM, from_end=True), STACK_ROOM),
    )


def _origin(record_headers: Sequence[tuple[str, bytes]], failure: Failure) -> tuple[str, int, int, int]:
    topic = h.text(record_headers, h.ORIGIN_TOPIC)
    partition, offset = h.number(record_headers, h.ORIGIN_PARTITION), h.number(record_headers, h.ORIGIN_OFFSET)
    timestamp = h.number(record_headers, h.ORIGIN_TIMESTAMP)
    if topic is None or partition is None or offset is None or timestamp is None:
        return failure.topic, failure.partition, failure.offset, failure.timestamp
    return topic, partition, offset, timestamp


def _details(failure: Failure, story: _Story, *, aliases: bool) -> Iterator[tuple[str, bytes]]:
    """What may be left out where room is short, the most useful first."""
    message, stack = story.message.encode(), story.stack.encode()
    yield from ((h.MESSAGE, message), (h.STACK, stack))
    if not aliases:
        return
    topic, exception = story.topic.encode(), story.exception.encode()
    # Big-endian, as Java's ByteBuffer puts an int and two longs.
    numbers = (struct.pack(">i", story.partition), struct.pack(">q", story.offset), struct.pack(">q", story.timestamp))
    yield from zip(SPRING, (topic, *numbers, failure.group.encode(), exception, message, stack), strict=True)
    # Kafka Streams writes its numbers as text, and the exception as Java's toString() does.
    place = (topic, str(story.partition).encode(), str(story.offset).encode())
    yield from zip(KAFKA_STREAMS, (exception + b": " + message, message, stack, *place), strict=True)


def trace_id(record_headers: Sequence[tuple[str, bytes]]) -> str | None:
    """The trace id of a W3C ``traceparent`` header (or CloudEvents' ``ce_traceparent``), or None."""
    for name in ("traceparent", "ce_traceparent"):
        if found := _TRACEPARENT.fullmatch(h.header(record_headers, name) or b""):
            return found[1].decode()
    return None

"""A publisher whose records carry the trace they were made in.

Invariant: a record that carries a trace already, since it is a copy, keeps it; what is written is otherwise the same.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

    from streams.ports import Message, Position, Publisher, Span, Tracing

CARRIED = "traceparent"


class TracedPublisher:
    """The ``Publisher`` port.

    Args:
        silent: Topics of our own book-keeping, which no trace tells of.
    """

    def __init__(self, publisher: Publisher, tracing: Tracing, silent: Collection[str] = ()) -> None:
        self._publisher = publisher
        self._tracing = tracing
        self._silent = frozenset(silent)

    async def publish(self, message: Message) -> Position:
        """See ``streams.ports.Publisher``."""
        span = self._started(message)
        if span is None:
            return await self._publisher.publish(message)
        with span.current():
            position = await self._publisher.publish(_carrying(message, span))
            _tell_position(span, position)
            return position

    async def send(self, message: Message) -> Awaitable[Position]:
        """See ``streams.ports.Publisher``; the span ends with the acknowledgement."""
        span = self._started(message)
        if span is None:
            return await self._publisher.send(message)
        try:
            pending = asyncio.ensure_future(await self._publisher.send(_carrying(message, span)))
        except BaseException as error:
            _end(span, error)
            raise
        pending.add_done_callback(partial(_settle, span))
        return pending

    async def send_many(self, messages: Sequence[Message]) -> Sequence[Awaitable[Position]]:
        """See ``streams.ports.Publisher``; each record has a span of its own, as with ``send``."""
        spans = [self._started(message) for message in messages]
        carrying = [
            message if span is None else _carrying(message, span) for message, span in zip(messages, spans, strict=True)
        ]
        try:
            pending = [asyncio.ensure_future(one) for one in await self._publisher.send_many(carrying)]
        except BaseException as error:
            for started in filter(None, spans):
                _end(started, error)
            raise
        for span, done in zip(spans, pending, strict=True):
            if span is not None:
                done.add_done_callback(partial(_settle, span))
        return pending

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """See ``streams.ports.Publisher``; only book-keeping is written so, and it has no spans."""
        await self._publisher.publish_all(messages)

    def _started(self, message: Message) -> Span | None:
        if message.topic in self._silent or any(name == CARRIED for name, _ in message.headers):
            return None
        span = self._tracing.start(f"send {message.topic}", "producer")
        if span.recording:
            _tell(span, message)
        return span


def _carrying(message: Message, span: Span) -> Message:
    carried = [(name, value.encode()) for name, value in span.headers()]
    return message._replace(headers=[*message.headers, *carried])


def _tell(span: Span, message: Message) -> None:
    span.put("messaging.system", "kafka")
    span.put("messaging.operation.name", "send")
    span.put("messaging.operation.type", "send")
    span.put("messaging.destination.name", message.topic)
    if message.key is not None:
        span.put("messaging.kafka.message.key", message.key.decode(errors="replace"))
    for name, attribute in (("ce_id", "messaging.message.id"), ("ce_type", "cloudevents.event_type")):
        found = next((value for header, value in message.headers if header == name), None)
        if found is not None:
            span.put(attribute, found.decode(errors="replace"))


def _tell_position(span: Span, position: Position) -> None:
    if span.recording:
        span.put("messaging.destination.partition.id", str(position.partition))
        span.put("messaging.kafka.offset", position.offset)


def _settle(span: Span, done: asyncio.Future[Position]) -> None:
    if done.cancelled():
        _end(span, asyncio.CancelledError())
        return
    error = done.exception()
    if error is None:
        _tell_position(span, done.result())
    _end(span, error)


def _end(span: Span, error: BaseException | None) -> None:
    if error is not None:
        span.failed(type(error).__qualname__)
    span.end()

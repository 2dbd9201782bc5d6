"""Calls handlers inside a span that goes on with the trace their record carries.

Invariant: what a handler is given, returns and raises is what it is without a span.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from streams.job import Reject, Retry, TransientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.engine.calls import Call, Calls
    from streams.engine.once import OnceCalls
    from streams.job import Work
    from streams.ports import Context, Span, Tracing


class TracedCalls:
    """Binds the handlers of one group as ``calls`` does, each call in a ``process`` span."""

    def __init__(self, calls: Calls | OnceCalls, tracing: Tracing, group: str) -> None:
        self._calls = calls
        self._tracing = tracing
        self._group = group

    def direct(self, work: Work) -> bool:
        """See :meth:`Calls.direct`: no handler is, since each has a span around it."""
        del work
        return False

    def bind(self, work: Work) -> Call:
        """As :meth:`Calls.bind`, or :meth:`OnceCalls.bind`."""
        return partial(self._run, self._calls.bind(work))

    async def _run(self, call: Call, payload: Any, context: Any) -> Any:
        contexts: Sequence[Context] = context if isinstance(context, list) else [context]
        span = self._tracing.start(
            f"process {contexts[0].read_at.topic}", "consumer", [each.trace for each in contexts]
        )
        if not span.recording:
            with span.current():
                return await call(payload, context)
        self._tell(span, contexts)
        with span.current(), structlog.contextvars.bound_contextvars(trace_id=span.trace_id):
            try:
                found = await call(payload, context)
            except BaseException as error:
                span.put("keylane.outcome", _raised(error))
                raise
            _tell_outcome(span, found)
            return found

    def _tell(self, span: Span, contexts: Sequence[Context]) -> None:
        first = contexts[0]
        topic, partition, offset = first.read_at
        span.put("messaging.system", "kafka")
        span.put("messaging.operation.name", "process")
        span.put("messaging.operation.type", "process")
        span.put("messaging.consumer.group.name", self._group)
        span.put("messaging.destination.name", topic)
        span.put("cloudevents.event_type", first.type)
        if len(contexts) > 1:
            span.put("messaging.batch.message_count", len(contexts))
            return
        span.put("messaging.destination.partition.id", str(partition))
        span.put("messaging.kafka.offset", offset)
        span.put("messaging.message.id", first.id)
        span.put("keylane.attempt", first.attempt)
        if first.key is not None:
            span.put("messaging.kafka.message.key", first.key)


def _raised(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"  # neither done nor failed: it runs again
    return "blocked" if isinstance(error, TransientError) else "failed"


def _tell_outcome(span: Span, found: Any) -> None:
    if isinstance(found, Retry | Reject):
        span.put("keylane.outcome", "failed")
        span.failed(type(found).__qualname__)
    else:
        span.put("keylane.outcome", "done")

"""OpenTelemetry: the ``Tracing`` port, and the exporter to a collector (OTLP over HTTP). The only importer of it.

    tracing = exporting("http://collector:4318", service="keylane-worker", instance="host:1", version="1.0", ratio=1.0)
    span = tracing.start("process jobs.emails", "consumer", [headers])
    with span.current():
        ...
    await tracing.close()

Invariant: a collector that is slow or away costs spans and bounded memory, and never keeps a request or a run waiting.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from streams.ports import SpanKind

_KINDS: dict[SpanKind, trace.SpanKind] = {
    "server": trace.SpanKind.SERVER,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
    "client": trace.SpanKind.CLIENT,
}
_PATIENCE = 3.0  # seconds for one batch, with its repetitions
_FAREWELL = 5.0  # seconds for what is left at the end
_NOWHERE = Context()
_W3C = TraceContextTextMapPropagator()


class OtelSpan:
    """The ``Span`` port."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def recording(self) -> bool:
        """See ``streams.ports.Span``."""
        return self._span.is_recording()

    @property
    def trace_id(self) -> str:
        """See ``streams.ports.Span``."""
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    def put(self, name: str, value: str | int) -> None:
        """See ``streams.ports.Span``."""
        self._span.set_attribute(name, value)

    def failed(self, kind: str) -> None:
        """See ``streams.ports.Span``."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR)

    def headers(self) -> list[tuple[str, str]]:
        """See ``streams.ports.Span``."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span, _NOWHERE))
        return list(carrier.items())

    @contextmanager
    def current(self) -> Iterator[None]:
        """See ``streams.ports.Span``; an error that leaves the block is noted."""
        token = attach(trace.set_span_in_context(self._span))
        try:
            yield
        except Exception as error:
            self.failed(type(error).__qualname__)
            raise
        finally:
            detach(token)
            self._span.end()

    def end(self) -> None:
        """See ``streams.ports.Span``."""
        self._span.end()


class OtelTracing:
    """The ``Tracing`` port.

    Args:
        provider: Makes the spans.
        abort: Called where the exporter takes too long at the end.
    """

    def __init__(self, provider: TracerProvider, abort: Callable[[], None] = lambda: None) -> None:
        self._provider = provider
        self._abort = abort
        self._tracer = provider.get_tracer("keylane")

    def start(self, name: str, kind: SpanKind, carried: Sequence[Mapping[str, str]] = ()) -> OtelSpan:
        """See ``streams.ports.Tracing``."""
        here = trace.get_current_span().get_span_context()
        remote = [_W3C.extract(headers, _NOWHERE) for headers in carried]
        origins = [_origin(context) for context in remote]
        alone = len(remote) == 1 and not here.is_valid
        parent = origins[0] if alone else here
        if parent.is_valid and not parent.trace_flags.sampled:
            return OtelSpan(trace.NonRecordingSpan(parent))  # as decided: what is made here hands it on unchanged
        links = [trace.Link(origin) for origin in origins if origin.is_valid] if kind == "consumer" else ()
        return OtelSpan(self._tracer.start_span(name, remote[0] if alone else None, _KINDS[kind], links=links))

    def share(self) -> None:
        """Let instrumented libraries of this process send their spans the same way."""
        trace.set_tracer_provider(self._provider)

    async def close(self) -> None:
        """Send what is left, for a bounded time."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _FAREWELL)
        if closing.is_alive():
            self._abort()


def exporting(endpoint: str, *, service: str, instance: str, version: str, ratio: float) -> OtelTracing:
    """Tracing whose spans go to a collector.

    Args:
        endpoint: The collector's base URL; ``/v1/traces`` is added.
        service: What kind of process this is.
        instance: Which one.
        version: Of keylane.
        ratio: The share of traces that begin here and are sampled; for the others whoever began them has decided.
    """
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_PATIENCE)
    names = {"service.name": service, "service.instance.id": instance, "service.version": version}
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)), resource=Resource.create(names), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracing(provider, exporter.shutdown)


def _origin(context: Context) -> trace.SpanContext:
    return trace.get_current_span(context).get_span_context()

"""Tracing whose spans stay in memory, and what to ask of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import format_span_id, format_trace_id

from streams.adapters.tracing import OtelTracing
from streams.tracing.names import TABLE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.sampling import Sampler

    from streams.tracing.names import SpanRow


class MemoryTracing(OtelTracing):
    """The real adapter in front of an exporter in memory."""

    def __init__(self, root: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBased(root), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        super().__init__(provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended, in that order."""
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


def trace_of(span: ReadableSpan) -> str:
    return format_trace_id(span.context.trace_id)


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else format_span_id(span.parent.span_id)


def id_of(span: ReadableSpan) -> str:
    return format_span_id(span.context.span_id)


def links_of(span: ReadableSpan) -> list[str]:
    return [format_span_id(link.context.span_id) for link in span.links]


def row_of(span: ReadableSpan) -> SpanRow:
    """The row of the table a span belongs to."""
    kind, operation = span.kind.name.lower(), span.name.split()[0]
    (row,) = [row for row in TABLE if row.kind == kind and row.name.split()[0] in {operation, "{method}"}]
    return row


def text_of(span: ReadableSpan) -> str:
    """Everything that leaves the process with the span."""
    return span.to_json()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})

"""A real OTLP/HTTP endpoint in the test's own loop, which reads what OpenTelemetry's exporter sends."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multidict import CIMultiDictProxy

_PROTOBUF = "application/x-protobuf"


@dataclass
class SeenSpan:
    """A span as it came over the wire."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    links: list[str]
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What came, in the order of arrival; ``hangs``: take requests and never answer them."""

    spans: list[SeenSpan] = field(default_factory=list)
    headers: list[CIMultiDictProxy[str]] = field(default_factory=list)
    hangs: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def of(self, trace: str) -> list[SeenSpan]:
        return [span for span in self.spans if span.trace == trace]

    async def take(self, request: web.Request) -> web.Response:
        assert request.content_type == _PROTOBUF
        self.headers.append(request.headers)
        body = await request.read()
        self.asked.set()
        if self.hangs:
            await self.over.wait()
            return web.Response(status=503)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _attributes(resource.resource.attributes)["service.name"]
            self.spans.extend(_seen(service, span) for scope in resource.scope_spans for span in scope.spans)
        return web.Response(body=ExportTraceServiceResponse().SerializeToString(), content_type=_PROTOBUF)


def _seen(service: str, span: Any) -> SeenSpan:
    links = [link.span_id.hex() for link in span.links]
    attributes = _attributes(span.attributes)
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    return SeenSpan(service, span.name, span.kind, *ids, links, attributes)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    found, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found
    finally:
        found.over.set()
        await runner.cleanup()

"""A span around every request: it goes on with the caller's trace, and its records and log lines are part of it.

Invariant: nothing of a query, a body or a header but the user agent is told, since they may hold secrets.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from streams.gateway.middleware import METHODS, REQUEST_ID, route_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Middleware

    from streams.ports import Span, Tracing

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OTHER = "_OTHER"  # what the conventions call a method nobody knows
# What machines ask every few seconds.
_UNTOLD = ("/health", "/metrics", "/api/v1/health", "/api/v1/metrics")


def traced(tracing: Tracing) -> Middleware:
    """The outermost middleware of a gateway that traces."""

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        method, route = _method(request), route_of(request)
        if route is not None and route.startswith(_UNTOLD):
            return await handler(request)
        span = tracing.start(_name(method, route), "server", [request.headers])
        if not span.recording:
            with span.current():
                return await handler(request)
        _tell(span, request, method, route)
        with span.current(), structlog.contextvars.bound_contextvars(trace_id=span.trace_id):
            response = await handler(request)
            _tell_answer(span, request, response)
            return response

    return around


def _name(method: str, route: str | None) -> str:
    shown = "HTTP" if method == _OTHER else method
    return f"{shown} {route}" if route else shown


def _method(request: web.Request) -> str:
    return request.method if request.method in METHODS else _OTHER


def _tell(span: Span, request: web.Request, method: str, route: str | None) -> None:
    span.put("http.request.method", method)
    span.put("url.path", request.rel_url.raw_path)
    span.put("url.scheme", request.scheme)
    span.put("network.protocol.version", f"{request.version.major}.{request.version.minor}")
    if route:
        span.put("http.route", route)
    if agent := request.headers.get("User-Agent"):
        span.put("user_agent.original", agent)


def _tell_answer(span: Span, request: web.Request, response: web.StreamResponse) -> None:
    span.put("http.response.status_code", response.status)
    if request_id := request.get(REQUEST_ID):
        span.put("keylane.request.id", request_id)
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.failed(str(response.status))

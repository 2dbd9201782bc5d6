"""What happens around every request: its id, the problem an error becomes, the access log, metrics, and headers.

Invariant: every answer carries its request id and the security headers, and is logged in one line.
"""

from __future__ import annotations

import logging
import re
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from streams.gateway.ids import uuid7
from streams.gateway.limits import RATE_HEADERS
from streams.gateway.pages import POLICY
from streams.gateway.problems import KIND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Middleware

    from streams.gateway.peers import Origins, Peers
    from streams.gateway.problems import Problems
    from streams.metrics import Metrics

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = web.RequestKey("request_id", str)
_ACCEPTABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer has."""
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_LOGGER = "streams.gateway.access"
_log = structlog.get_logger(_LOGGER)


class Around:
    """The one middleware of the gateway.

    Args:
        secure: Whether clients reach it through HTTPS only.
    """

    def __init__(self, problems: Problems, metrics: Metrics, peers: Peers, origins: Origins, *, secure: bool) -> None:
        self._problems = problems
        self._metrics = metrics
        self._peers = peers
        self._origins = origins
        # Asked before what is told is put together.
        self._tells = partial(logging.getLogger(_LOGGER).isEnabledFor, logging.INFO)
        self._headers = dict(HEADERS)
        if secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that every answer has."""
        headers = response.headers
        headers.update(self._origins.headers(request))
        headers.update(request.get(RATE_HEADERS, {}))
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        # Not there where aiohttp refused the request before anybody was asked.
        headers["X-Request-Id"] = request.get(REQUEST_ID) or uuid7()
        headers["Server"] = "keylane"

    @property
    def middleware(self) -> Middleware:
        """To be given to the application."""

        @web.middleware
        async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._carried_out(request, handler)

        return around

    async def _carried_out(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        request_id = request[REQUEST_ID] = _request_id(request)
        # Not ``bound_contextvars``, which walks over the whole context.
        tokens = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            response = await self._answer(request, handler, request_id)
            self._told(request, response, time.perf_counter() - started)
        finally:
            structlog.contextvars.reset_contextvars(**tokens)
        return response

    async def _answer(self, request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
        try:
            return self._origins.preflight(request) or await handler(request)
        except (web.HTTPSuccessful, web.HTTPRedirection) as answer:
            return web.Response(text=answer.text, status=answer.status, headers=answer.headers)
        except Exception as error:  # noqa: BLE001 - the map from errors to answers
            return self._problems.answer(error, request, request_id)

    def _told(self, request: web.Request, response: web.StreamResponse, seconds: float) -> None:
        # What a client may choose freely must not make new series.
        method = request.method if request.method in METHODS else "other"
        route = route_of(request) or "unmatched"
        self._metrics.inc("keylane_http_requests_total", method=method, route=route, status=str(response.status))
        self._metrics.observe("keylane_http_request_duration_seconds", seconds, method=method, route=route)
        if KIND in response:
            self._metrics.inc("keylane_refused_total", problem=response[KIND])
        if self._tells():
            self._tell(request, response, route, seconds)

    def _tell(self, request: web.Request, response: web.StreamResponse, route: str, seconds: float) -> None:
        _log.info(
            "request",
            method=request.method,
            path=request.rel_url.raw_path,
            route=route,
            status=response.status,
            milliseconds=round(seconds * 1000, 2),
            bytes=response.body_length if response.prepared else response.content_length,
            peer=self._peers.address(request),
        )


def _request_id(request: web.Request) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if _ACCEPTABLE.fullmatch(given) else uuid7()


def route_of(request: web.Request) -> str | None:
    """The pattern of the route; None where there is none."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical

"""Serves the application: bodies stay packed until they are read, and what is not HTTP is answered as all else is.

Invariant: what aiohttp answers by itself, where there is no request yet, is a problem with the security headers, and
neither it nor the log repeats what was sent. A connection whose request does not come to the end of its headers in time
is closed.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from streams.gateway.body import PATIENCE
from streams.gateway.ids import uuid7
from streams.gateway.middleware import HEADERS
from streams.gateway.problems import MEDIA_TYPE

if TYPE_CHECKING:
    import asyncio

    from aiohttp.web_request import BaseRequest

_log = structlog.get_logger("streams.gateway.access")


class Runner(web.AppRunner):
    """Runs the gateway; ``options`` are those of ``aiohttp.web.AppRunner``. The access log is our own."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, auto_decompress=False, access_log=None, **options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            patience=self.app[PATIENCE],
            **made._kwargs,  # noqa: SLF001 - aiohttp has no other way to choose the handler of a connection
        )


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """One connection; ``patience`` is the seconds that a request's headers may take."""

    __slots__ = ("_closing", "_patience")

    def __init__(self, manager: web.Server, *, patience: float, **options: Any) -> None:
        super().__init__(manager, **options)
        self._patience = patience
        self._closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages or self._current_request is not None:
            self._wait_no_more()
        elif self._closing is None:
            self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._closing = self._loop.call_later(self._patience, self._give_up)

    def _wait_no_more(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _give_up(self) -> None:
        _log.info("no request", reason=f"no end of the headers within {self._patience:g} s")
        self.force_close()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request, or broke on its way out (which aiohttp logs)."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            super().handle_error(request, status, exc, message)
        request_id = uuid7()
        reason = type(exc).__name__  # its text holds what was sent
        _log.info("no request", status=status, reason=reason, request_id=request_id, peer=request.remote)
        members = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
        text = json.dumps(members | {"request_id": request_id})
        headers = {**HEADERS, "Server": "keylane", "X-Request-Id": request_id}
        answer = web.Response(text=text, status=status, content_type=MEDIA_TYPE, headers=headers)
        answer.force_close()
        return answer

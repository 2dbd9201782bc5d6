"""The two ways notices go to a client: server-sent events, and messages of a WebSocket.

Invariant: a client that takes nothing for ``PATIENCE`` seconds is cut off; whoever is let go is told why, if it can be.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from aiohttp import WSCloseCode, web

from streams.gateway.liveviews import text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streams.live.notice import Notice
    from streams.live.subscription import Drop

PATIENCE = 10.0  # seconds
_LONGEST = 120  # bytes of a close frame's reason
_RETRY = 2_000  # milliseconds until a browser comes back


class StuckError(Exception):
    """The client takes nothing any more."""


class Line(Protocol):
    """A connection to one client."""

    async def notices(self, notices: Sequence[Notice]) -> None:
        """Tell what happened."""

    async def beat(self, last: str) -> None:
        """Show that the line is alive, and the id to read on behind."""

    async def gap(self, reason: str) -> None:
        """Say that what lies behind the client's id is not told."""

    async def dropped(self, drop: Drop) -> None:
        """Say that nothing more is told, and why."""


class Events:
    """Server-sent events on a response."""

    def __init__(self, response: web.StreamResponse, request: web.Request) -> None:
        self._response = response
        self._request = request

    async def notices(self, notices: Sequence[Notice]) -> None:
        """One event each."""
        await self._write("".join(f"event: {n.kind}\nid: {n.id}\ndata: {text_of(n)}\n\n" for n in notices))

    async def beat(self, last: str) -> None:
        """An id without an event, which a browser keeps and shows nobody."""
        await self._write(f"retry: {_RETRY}\nid: {last}\n\n")

    async def gap(self, reason: str) -> None:
        """An event ``gap``."""
        await self._write(f"event: gap\ndata: {json.dumps({'reason': reason})}\n\n")

    async def dropped(self, drop: Drop) -> None:
        """An event ``dropped``, the last one."""
        await self._write(f"event: dropped\ndata: {json.dumps({'reason': drop.reason})}\n\n")

    async def _write(self, text: str) -> None:
        async with _patience(self._request):
            await self._response.write(text.encode())


class Messages:
    """Messages of a WebSocket, JSON objects with ``kind``."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request

    async def notices(self, notices: Sequence[Notice]) -> None:
        """One message each."""
        for notice in notices:
            await self._write(f'{{"kind":"{notice.kind}","id":{json.dumps(notice.id)},"data":{text_of(notice)}}}')

    async def beat(self, last: str) -> None:
        """A message ``beat``."""
        await self._write(json.dumps({"kind": "beat", "id": last}))

    async def gap(self, reason: str) -> None:
        """A message ``gap``."""
        await self._write(json.dumps({"kind": "gap", "reason": reason}))

    async def dropped(self, drop: Drop) -> None:
        """The close frame says why."""
        async with _patience(self._request):
            await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=drop.reason.encode()[:_LONGEST])

    async def _write(self, text: str) -> None:
        async with _patience(self._request):
            await self._socket.send_str(text)


@asynccontextmanager
async def _patience(request: web.Request) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise StuckError from None

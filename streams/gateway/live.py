"""``/api/v1/stream`` (server-sent events) and ``/api/v1/ws`` (WebSocket): what happens, as it happens.

Invariant: a caller is told of its own tenant only; whoever comes back with the last id it got, to any gateway, is told
what lies between, or that there is a gap.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from aiohttp import ClientConnectionResetError, web
from pydantic import BaseModel, ConfigDict, Field

from schemas.contract import Problem
from streams.door import ProblemError, RouteSpec
from streams.gateway import body
from streams.gateway.access import CALLER, Scope
from streams.gateway.joblist import whole_key
from streams.gateway.lines import Events, Messages, StuckError
from streams.gateway.liveviews import Told
from streams.gateway.models import Key, Name, Tenant
from streams.live import positions
from streams.live.feed import FullError
from streams.live.notice import Interest
from streams.live.rewind import GapError
from streams.live.subscription import RENEW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.gateway.lines import Line
    from streams.gateway.peers import Origins
    from streams.live.feed import Feed
    from streams.live.notice import Notice
    from streams.live.rewind import Places, Rewind
    from streams.live.subscription import Subscription
    from streams.metrics import Metrics

BEAT = 15.0  # seconds of silence until a line shows that it is alive
RENEW_AFTER = 900.0  # seconds: no line outlives its caller's rights for longer
_PING = 30.0  # seconds: a WebSocket whose client does not answer is closed
_LONGEST = 4_096  # bytes of a message: clients have nothing to say
_STATUSES = {
    400: "A query parameter is unknown or does not fit.",
    401: "The credentials are missing or not valid.",
    403: "The scope is missing, or the tenant is another one's.",
    503: "What happens cannot be read for now, or too many listen.",
}


class StreamQuery(BaseModel):
    """What to be told of. ``last_event_id`` (or the header): read on behind it. ``ticket``: instead of credentials."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    tenant: Tenant | None = None
    type: Name | None = None
    job: Name | None = None
    key: Key | None = None
    last_event_id: Annotated[str, Field(max_length=positions.LONGEST)] | None = None
    ticket: Annotated[str, Field(max_length=200)] | None = None


class LiveRoutes:
    """The routes; pages of the ``origins`` may open a WebSocket."""

    def __init__(self, feed: Feed, rewind: Rewind, metrics: Metrics, origins: Origins) -> None:
        self._feed = feed
        self._rewind = rewind
        self._metrics = metrics
        self._origins = origins

    def specs(self) -> tuple[RouteSpec, ...]:
        """The routes."""
        return (
            RouteSpec(
                method="GET",
                path="/api/v1/stream",
                summary="Job statuses and events as server-sent events",
                scope=Scope.JOBS_READ,
                build=lambda _: self.stream,
                query=StreamQuery,
                answer=Told,
                answer_type="text/event-stream",
                statuses={200: "Events without an end; see docs/live.md.", **_STATUSES},
            ),
            RouteSpec(
                method="GET",
                path="/api/v1/ws",
                summary="Job statuses and events through a WebSocket",
                scope=Scope.JOBS_READ,
                build=lambda _: self.socket,
                query=StreamQuery,
                statuses={101: "Messages as `Told` describes them.", 426: "Ask for a WebSocket.", **_STATUSES},
            ),
        )

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events."""
        interest, since = _asked(request)
        async with self._subscribed(interest) as (found, begin):
            before = await self._before(interest, since, begin)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
            await response.prepare(request)
            await self._tell(Events(response, request), found, before, begin)
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """A WebSocket."""
        interest, since = _asked(request)
        self._check_origin(request)
        socket = web.WebSocketResponse(heartbeat=_PING, max_msg_size=_LONGEST, compress=False)
        if not socket.can_prepare(request).ok:
            raise ProblemError("upgrade-required", "This is a WebSocket.")
        async with self._subscribed(interest) as (found, begin):
            before = await self._before(interest, since, begin)
            await socket.prepare(request)
            telling = asyncio.create_task(self._tell(Messages(socket, request), found, before, begin))
            try:
                async for _ in socket:  # heard, so that pings and the end are; a client has nothing to say
                    pass
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
        return socket

    def _check_origin(self, request: web.Request) -> None:
        """Keep pages of other sites from listening: no rule of browsers keeps them from opening a WebSocket."""
        origin = request.headers.get("Origin")
        if origin is None or urlsplit(origin).netloc == request.host or "ticket" in request.query:
            return
        if "Access-Control-Allow-Origin" not in self._origins.headers(request):
            raise ProblemError("forbidden", "A page of another site needs a ticket, or a name in KEYLANE_CORS_ORIGINS.")

    @asynccontextmanager
    async def _subscribed(self, interest: Interest) -> AsyncIterator[tuple[Subscription, Places]]:
        try:
            async with self._feed.subscribed(interest) as found:
                yield found, dict(self._feed.positions)
        except FullError:
            detail = "As many listen to this gateway as may; try again later, or another one."
            raise ProblemError("overloaded", detail, retry_after=5) from None

    async def _before(self, interest: Interest, since: Places | None, begin: Places) -> list[Notice] | GapError:
        """What happened since the client was last told something."""
        if since is None:
            return []
        try:
            return await self._rewind.between(interest, since, begin)
        except GapError as gap:
            return gap

    async def _tell(self, line: Line, found: Subscription, before: list[Notice] | GapError, begin: Places) -> None:
        with suppress(ClientConnectionResetError):  # gone: that is how a line ends
            try:
                if isinstance(before, GapError):
                    await line.gap(f"{before}: load what you show anew")
                else:
                    await line.notices(before)
                await line.beat(positions.encode(begin))
                await self._tell_on(line, found)
            except StuckError:
                self._metrics.inc("keylane_live_dropped_total", reason="stuck")

    async def _tell_on(self, line: Line, found: Subscription) -> None:
        until = time.monotonic() + RENEW_AFTER
        while True:
            notices = await found.take(BEAT)
            if time.monotonic() > until:
                found.drop(RENEW)
            if notices:
                await line.notices(notices)
            if found.dropped is not None:
                await line.dropped(found.dropped)
                return
            if not notices:
                # Nothing waits, so everything before the reader's own positions was told.
                await line.beat(positions.encode(self._feed.positions))


def _asked(request: web.Request) -> tuple[Interest, Places | None]:
    query = body.fitted(StreamQuery, dict(request.query))
    caller = request[CALLER]
    tenant = query.tenant if caller.tenant is None else caller.acting_for(query.tenant)
    interest = Interest(tenant, query.type, query.job, whole_key(tenant, query.key))
    last = request.headers.get("Last-Event-ID") or query.last_event_id
    if not last:
        return interest, None
    since = positions.decode(last)
    if since is None:
        detail = "The last event id is none of this gateway's: leave it out."
        raise ProblemError("invalid-request", detail, errors=(Problem(detail=detail, pointer="/last_event_id"),))
    return interest, since

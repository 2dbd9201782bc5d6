"""``POST /api/v1/stream-tickets``: for browsers, whose ``EventSource`` and ``WebSocket`` send no headers.

Invariant: a ticket lets its holder listen, once, and no more than its holder may read.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from streams.door import ProblemError, RouteSpec
from streams.gateway.access import CALLER, Caller, Scope
from streams.gateway.jobs import json_answer
from streams.gateway.models import Answer

if TYPE_CHECKING:
    from aiohttp import web

    from streams.door import Tickets
    from streams.gateway.access import Access, Identify

SECONDS = 30
LIVE = ("/api/v1/stream", "/api/v1/ws")


class Ticket(Answer):
    """To be given as ``ticket`` in the query of ``/api/v1/stream`` or ``/api/v1/ws``, once, within the seconds."""

    ticket: str
    seconds: int = SECONDS


class TicketRoutes:
    """The route."""

    def __init__(self, tickets: Tickets) -> None:
        self._tickets = tickets

    def specs(self) -> tuple[RouteSpec, ...]:
        """The route."""
        return (
            RouteSpec(
                method="POST",
                path="/api/v1/stream-tickets",
                summary="Get a ticket to listen without headers",
                scope=Scope.JOBS_READ,
                build=lambda _: self.post,
                answer=Ticket,
                statuses={
                    201: "The ticket.",
                    401: "The credentials are missing or not valid.",
                    403: "The scope is missing.",
                    503: "Redis is away.",
                },
            ),
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """A ticket for the caller."""
        caller = request[CALLER]
        holder = json.dumps({"name": caller.name, "tenant": caller.tenant})
        return json_answer(Ticket(ticket=await self._tickets.issue(holder)), HTTPStatus.CREATED)


class Ticketed:
    """An ``Access`` that takes a ticket for credentials where somebody listens."""

    def __init__(self, access: Access, tickets: Tickets) -> None:
        self._access = access
        self._tickets = tickets

    def at(self, path: str, scope: str) -> Identify:
        """See ``Access.at``."""
        identify = self._access.at(path, scope)
        if path not in LIVE:
            return identify

        async def ticketed(request: web.Request) -> Caller:
            ticket = request.query.get("ticket")
            return await identify(request) if ticket is None else await self._holder(ticket)

        return ticketed

    async def _holder(self, ticket: str) -> Caller:
        holder = await self._tickets.take(ticket)
        if holder is None:
            raise ProblemError("unauthenticated", "The ticket was used, or is older than 30 s: get another one.")
        found = json.loads(holder)
        return Caller(found["name"], found["tenant"], frozenset({Scope.JOBS_READ}))

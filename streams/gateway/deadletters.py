"""``/api/admin/dlq``: the dead letters of all groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from streams.core import headers as h
from streams.deadletters.entry import Filters
from streams.door import RouteSpec
from streams.gateway import body
from streams.gateway.access import CALLER, Scope
from streams.gateway.intake import rfc3339
from streams.gateway.jobs import json_answer
from streams.gateway.views import DeadLetterList, DeadLetterView, Place

if TYPE_CHECKING:
    from aiohttp import web

    from streams.deadletters.entry import Entry
    from streams.deadletters.reading import DeadLetters


class Query(BaseModel):
    """Which dead letters are meant; ``topic`` is the source topic or the dead-letter topic."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    group: str | None = None
    topic: str | None = None
    tenant: str | None = None
    type: str | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class DeadLetterRoutes:
    """The route of dead letters."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters

    def specs(self) -> tuple[RouteSpec, ...]:
        """The route."""
        return (
            RouteSpec(
                method="GET",
                path="/api/admin/dlq",
                summary="List dead letters, newest first",
                scope=Scope.DLT_READ,
                build=lambda _: self.get,
                query=Query,
                answer=DeadLetterList,
                statuses={
                    200: "The dead letters that match.",
                    401: "The credentials are missing or not valid.",
                    403: "The scope is missing.",
                    400: "A query parameter is unknown or does not fit.",
                    503: "The broker is away.",
                },
            ),
        )

    async def get(self, request: web.Request) -> web.StreamResponse:
        """List dead letters."""
        query = body.fitted(Query, dict(request.query))
        filters = Filters(**query.model_dump(exclude={"limit"}))
        caller = request[CALLER]
        found: list[DeadLetterView] = []
        async for entry in self._letters.entries(filters, await self._letters.ledger()):
            if len(found) == query.limit:
                return json_answer(DeadLetterList(entries=found, more=True))
            if caller.sees(entry.tenant):
                found.append(shown(entry))
        return json_answer(DeadLetterList(entries=found, more=False))


def shown(entry: Entry) -> DeadLetterView:
    """The dead letter as lists show it."""
    return DeadLetterView(
        ref=entry.ref,
        group=entry.family.group,
        topic=entry.family.source,
        tenant=entry.tenant,
        key=entry.key,
        type=entry.type,
        state=entry.state,
        classification=entry.classification,
        exception=entry.exception,
        message=entry.message,
        failed_at=rfc3339(entry.failed_at),
        attempts=h.number(entry.record.headers, h.ATTEMPTS),
        replays=entry.replays,
        held=entry.held,
        operation=entry.operation,
        unfinished=entry.unfinished,
        origin=None if entry.origin is None else Place(**entry.origin._asdict()),
    )

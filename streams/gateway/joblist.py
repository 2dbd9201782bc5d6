"""``GET /api/v1/jobs``: lists of jobs, the newest first, page by page.

Invariant: a list is ordered by creation and id, so that a job that comes meanwhile moves no other one to another page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from streams.door import RouteSpec
from streams.gateway import body, cursors
from streams.gateway.access import CALLER, Scope
from streams.gateway.jobs import json_answer, view
from streams.gateway.models import Key, Moment, Name, Tenant
from streams.gateway.views import JobList
from streams.history import JobFilters, Mark

if TYPE_CHECKING:
    from datetime import datetime

    from aiohttp import web

    from streams.door import JobHistory

State = Literal["pending", "processing", "retrying", "completed", "failed", "dead", "cancelled"]


class JobQuery(BaseModel):
    """Which jobs are meant. ``key`` is what the job was submitted with; without a tenant, the whole record key."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    tenant: Tenant | None = None
    type: Name | None = None
    queue: Name | None = None
    status: State | None = None
    key: Key | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    cursor: Annotated[str, Field(max_length=cursors.LONGEST)] | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class JobListRoutes:
    """The route."""

    def __init__(self, history: JobHistory) -> None:
        self._history = history

    def specs(self) -> tuple[RouteSpec, ...]:
        """The route."""
        return (
            RouteSpec(
                method="GET",
                path="/api/v1/jobs",
                summary="List jobs, the newest first",
                scope=Scope.JOBS_READ,
                build=lambda _: self.get,
                query=JobQuery,
                answer=JobList,
                statuses={
                    200: "A page of the jobs that match.",
                    400: "A query parameter is unknown or does not fit.",
                    401: "The credentials are missing or not valid.",
                    403: "The scope is missing, or the tenant is another one's.",
                    503: "The history is away.",
                },
            ),
        )

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A page."""
        query = body.fitted(JobQuery, dict(request.query))
        caller = request[CALLER]
        tenant = query.tenant if caller.tenant is None else caller.acting_for(query.tenant)
        filters = JobFilters(
            tenant=tenant,
            type=query.type,
            queue=query.queue,
            status=query.status,
            key=whole_key(tenant, query.key),
            created_after=_milliseconds(query.created_after),
            created_before=_milliseconds(query.created_before),
        )
        meant = query.model_dump(exclude={"cursor", "limit"})
        behind = None if query.cursor is None else _mark(cursors.decode(query.cursor, meant))
        found = await self._history.page(filters, behind, query.limit + 1)
        shown, more = found[: query.limit], len(found) > query.limit
        cursor = cursors.encode((shown[-1].created_at, shown[-1].job_id), meant) if more else None
        return json_answer(JobList(jobs=[view(row) for row in shown], cursor=cursor))


def whole_key(tenant: str | None, key: str | None) -> str | None:
    """The record key that is meant by the key a job was submitted with, or by that record key itself."""
    if tenant is None or key is None or key.startswith(f"{tenant}/"):
        return key
    return f"{tenant}/{key}"


def _mark(place: Any) -> Mark:
    match place:
        case [int(created_at), str(job_id)]:
            return Mark(created_at, job_id)
    raise cursors.misfit()


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)

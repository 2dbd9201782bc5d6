"""``POST /api/v1/jobs/{id}/cancel`` and ``…/retry``: what may still be done to a job that was accepted.

Invariant: nothing is done that was not written into the audit trail before; the job's status changes only by what its
worker tells.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from streams.control import PARTITION, TOPIC, Order
from streams.deadletters.entry import Filters
from streams.deadletters.reading import CLOCKS_APART
from streams.door import ProblemError, RouteSpec
from streams.gateway.access import CALLER, Scope
from streams.gateway.acts import act
from streams.gateway.intake import rfc3339
from streams.gateway.jobs import detail, json_answer
from streams.gateway.replaying import LOCATION as OPERATIONS
from streams.gateway.submission import LOCATION
from streams.gateway.views import JobDetail
from streams.history import is_finished
from streams.job import TransientError
from streams.ports import Message

if TYPE_CHECKING:
    from aiohttp import web

    from streams.audit import Audit
    from streams.deadletters.reading import DeadLetters
    from streams.gateway.lookup import Lookup
    from streams.gateway.replaying import ReplayRoutes
    from streams.history import JobRow
    from streams.ports import Publisher

_STATUSES = {
    401: "The credentials are missing or not valid.",
    403: "The scope is missing.",
    404: "No job has this id, or it is another tenant's.",
    409: "The job is not in a state for this.",
    503: "The broker, the history or the audit trail is away.",
}


class DrivingRoutes:
    """The routes.

    Args:
        patience: Seconds until a missing acknowledgement is a problem.
    """

    def __init__(
        self,
        lookup: Lookup,
        publisher: Publisher,
        audit: Audit,
        letters: DeadLetters,
        replays: ReplayRoutes,
        *,
        patience: float,
    ) -> None:
        self._lookup = lookup
        self._publisher = publisher
        self._audit = audit
        self._letters = letters
        self._replays = replays
        self._patience = patience

    def specs(self) -> tuple[RouteSpec, ...]:
        """The routes."""
        return (
            RouteSpec(
                method="POST",
                path=LOCATION + "{id}/cancel",
                summary="Cancel a job",
                scope=Scope.JOBS_WRITE,
                build=lambda _: self.cancel,
                answer=JobDetail,
                statuses={202: "The order stands; the job as it was. It is `cancelled` once its worker says so."}
                | _STATUSES,
            ),
            RouteSpec(
                method="POST",
                path=LOCATION + "{id}/retry",
                summary="Replay the dead letter of a job",
                scope=Scope.DLT_REPLAY,
                build=lambda _: self.retry,
                answer=JobDetail,
                statuses={202: "Its replay is under way, where `Location` says; the job as it was."} | _STATUSES,
            ),
        )

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Order that the job is cancelled."""
        row = await self._mine(request)
        if is_finished(row.status):
            raise wrong_state(row, f"The job is {row.status}: there is nothing left to cancel.")
        caller = request[CALLER]
        order = Order(row.tenant, row.job_id, row.replays, time.time_ns() // 1_000_000, caller.name)
        facts = {"before": {"status": row.status, "attempt": row.attempt}, "after": {"status": "cancelled"}}
        await self._audit.record(act(request, "jobs.cancel", f"jobs/{row.job_id}", tenant=row.tenant, **facts))
        await self._store(Message(TOPIC, order.name.encode(), order.value, partition=PARTITION))
        return json_answer(detail(row), HTTPStatus.ACCEPTED, {"Location": LOCATION + row.job_id})

    async def retry(self, request: web.Request) -> web.StreamResponse:
        """Replay the job's dead letter."""
        row = await self._mine(request)
        if row.status == "retrying":
            raise wrong_state(row, "The job waits to be run again by itself: see due_at.")
        if row.status != "dead":
            raise wrong_state(row, f"The job is {row.status}, and not dead: there is nothing to retry.")
        operation = await self._replays.start(request, "replay", await self._dead(row))
        return json_answer(detail(row), HTTPStatus.ACCEPTED, {"Location": OPERATIONS + operation.id})

    async def _dead(self, row: JobRow) -> str:
        """The dead letter of a job that is dead."""
        origin = (row.topic, row.partition, row.offset)
        filters = Filters(group=row.queue, partition=row.partition, since=row.updated_at - CLOCKS_APART)
        async for entry in self._letters.entries(filters, await self._letters.ledger()):
            if entry.origin is not None and entry.origin[:3] == origin and entry.replays == row.replays:
                return entry.ref
        raise wrong_state(row, "The job's dead letter is not there (any more).")

    async def _mine(self, request: web.Request) -> JobRow:
        row = await self._lookup.find(request.match_info["id"], request[CALLER].tenant)
        if row is None or not request[CALLER].sees(row.tenant):
            raise ProblemError("not-found", "No job has this id.")
        return row

    async def _store(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._publisher.publish(message)
        except TimeoutError as error:
            raise TransientError(f"{message.topic}: no acknowledgement within {self._patience} s") from error


def wrong_state(row: JobRow, detail: str) -> ProblemError:
    """The problem of a job that is where this cannot be done."""
    due = {} if row.due_at is None else {"due_at": rfc3339(row.due_at)}
    return ProblemError("wrong-state", detail, extra={"job_status": row.status, **due})

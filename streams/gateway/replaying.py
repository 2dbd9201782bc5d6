"""``POST /api/v1/dlt:replay`` and ``:discard``, and what became of them: as ``keylane dlt``, for the caller's tenant.

Invariant: nothing is written unless ``dry_run`` is false, and then only after the act is in the audit trail; a caller
of a tenant takes, resumes and sees only operations on its own dead letters.
"""

from __future__ import annotations

import secrets
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from schemas.contract import Problem
from streams.core.replay import STATES, State
from streams.deadletters.entry import format_ref
from streams.door import ProblemError, RouteSpec
from streams.gateway import body
from streams.gateway.access import CALLER, Scope
from streams.gateway.acts import act
from streams.gateway.intake import rfc3339
from streams.gateway.jobs import json_answer
from streams.gateway.letters import Chosen, filters_of
from streams.gateway.letterviews import OperationView, RefusedView

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from streams.audit import Audit
    from streams.core.replay import Kind
    from streams.deadletters.ledger import Operation
    from streams.deadletters.operation import Draft, Operations
    from streams.deadletters.reading import DeadLetters
    from streams.gateway.access import Caller
    from streams.gateway.dltwork import DltWork

PATH = "/api/v1/dlt"
LOCATION = PATH + "/operations/"
_SHOWN = 100  # refusals
_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
_Ref = Annotated[str, StringConstraints(max_length=300, pattern=r"^[A-Za-z0-9._-]+/\d{1,9}/\d{1,18}$")]
_STATUSES = {
    400: "The body does not fit.",
    401: "The credentials are missing or not valid.",
    403: "The scope is missing, or the tenant is another one's.",
    404: "There is no such operation, or it is another tenant's.",
    409: "The operation has finished.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    503: "The broker or the audit trail is away, or too many operations are under way.",
}


class OperationRequest(Chosen):
    """Which dead letters to take, and how: a dry run, which shows what would be done, unless ``dry_run`` is false.

    ``refs`` names single ones, as lists show them, ``states`` those in one of these. ``limit`` takes the first so many
    in their order. ``rate`` is in entries per second, 0 for no limit; a discard has none. ``resume`` goes on with an
    operation that was interrupted.
    """

    model_config = ConfigDict(strict=True)

    refs: Annotated[list[_Ref], Field(max_length=1_000, default_factory=list)]
    states: Annotated[list[State], Field(max_length=len(STATES), default_factory=list)]
    limit: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 100.0
    reason: Annotated[str, StringConstraints(max_length=500)] = ""
    dry_run: bool = True
    resume: _Id | None = None

    @model_validator(mode="after")
    def _checked(self) -> OperationRequest:
        if self.resume is None:
            return self
        if self.dry_run or self.model_fields_set - {"resume", "dry_run", "rate"}:
            raise ValueError("resume has its own dead letters: send it with dry_run false and nothing but rate")
        return self


class ReplayRoutes:
    """The routes.

    Args:
        operations: Makes what carries operations out for a caller of that name.
    """

    def __init__(
        self, letters: DeadLetters, operations: Callable[[str], Operations], work: DltWork, audit: Audit
    ) -> None:
        self._letters = letters
        self._operations = operations
        self._work = work
        self._audit = audit

    def specs(self) -> tuple[RouteSpec, ...]:
        """The routes."""
        texts: tuple[tuple[Kind, str], ...] = (
            ("replay", "Run dead letters again, in order per key"),
            ("discard", "Give dead letters up for good, and set the keys they hold free"),
        )
        return (
            *(
                RouteSpec(
                    method="POST",
                    path=f"{PATH}:{kind}",
                    summary=text,
                    scope=Scope.DLT_REPLAY,
                    build=lambda _, kind=kind: partial(self.post, kind),  # type: ignore[misc]
                    body=OperationRequest,
                    answer=OperationView,
                    statuses={
                        200: "What would be done, or that there is nothing to do.",
                        202: "It is under way; look at it where `Location` says.",
                    }
                    | _STATUSES,
                )
                for kind, text in texts
            ),
            RouteSpec(
                method="GET",
                path=LOCATION + "{id}",
                summary="Look at a replay or a discard",
                scope=Scope.DLT_READ,
                build=lambda _: self.get,
                answer=OperationView,
                statuses={200: "How far it is."} | {status: _STATUSES[status] for status in (401, 403, 404, 503)},
            ),
        )

    async def post(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        """Plan, and if asked to, carry out."""
        asked = body.fitted(OperationRequest, await body.read(request))
        if kind == "discard" and "rate" in asked.model_fields_set:
            problem = Problem(detail="A discard has no rate.", pointer="/rate")
            raise ProblemError("invalid-request", "The body does not fit.", errors=(problem,))
        if asked.resume is not None:
            return await self._resume(kind, request, asked, asked.resume)
        operations = self._operations(request[CALLER].name)
        filters = filters_of(asked, request[CALLER], states=frozenset(asked.states), refs=frozenset(asked.refs))
        draft = await operations.draft(kind, filters, asked.limit)
        if asked.dry_run or not len(draft.plan):
            return json_answer(planned(draft))
        self._work.check()
        operation = await self._started(request, operations, draft, asked.reason)
        self._work.begin(operations, operation.id, _rate(kind, asked), partial(_ready, operation))
        return _accepted(planned(draft), operation)

    async def start(self, request: web.Request, kind: Kind, ref: str) -> Operation:
        """Take one dead letter, with all that goes with it.

        Raises:
            ProblemError: It is not to be taken; the detail says why.
        """
        operations = self._operations(request[CALLER].name)
        draft = await operations.draft(kind, filters_of(Chosen(), request[CALLER], refs=frozenset({ref})))
        if not len(draft.plan):
            reasons = [refusal.reason for refusal in draft.plan.refusals]
            states = ", ".join(draft.plan.passed_over)
            raise ProblemError("wrong-state", f"Its dead letter {ref} {reasons[0] if reasons else f'is {states}'}.")
        self._work.check()
        operation = await self._started(request, operations, draft, "")
        self._work.begin(operations, operation.id, 0.0, partial(_ready, operation))
        return operation

    async def get(self, request: web.Request) -> web.StreamResponse:
        """How far one is."""
        operation = await self._mine(request.match_info["id"], None, request[CALLER])
        return json_answer(self._view(operation))

    async def _started(self, request: web.Request, operations: Operations, draft: Draft, reason: str) -> Operation:
        operation_id = f"{draft.kind[0]}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        facts = {"entries": len(draft.plan), "filters": draft.shown}
        await self._audit.record(
            act(
                request,
                f"dlt.{draft.kind}",
                f"operations/{operation_id}",
                tenant=draft.filters.tenant,
                before=facts,
                after={"reason": reason},
            )
        )
        return await operations.start(draft, operation_id, reason=reason)

    async def _resume(
        self, kind: Kind, request: web.Request, asked: OperationRequest, operation_id: str
    ) -> web.StreamResponse:
        caller = request[CALLER]
        operation = await self._mine(operation_id, kind, caller)
        if operation.status == "finished":
            raise ProblemError("wrong-state", f"The {operation.name} has finished: there is nothing to resume.")
        self._work.check()
        target, tenant = f"operations/{operation_id}", operation.filters.get("tenant")
        await self._audit.record(
            act(request, f"dlt.{kind}.resume", target, tenant=tenant, before={"entries": operation.entries})
        )
        operations = self._operations(caller.name)
        self._work.begin(operations, operation_id, _rate(kind, asked), partial(operations.resume, kind, operation_id))
        return _accepted(self._view(operation), operation)

    async def _mine(self, operation_id: str, kind: Kind | None, caller: Caller) -> Operation:
        found = (await self._letters.ledger()).operations.get(operation_id)
        mine = found is not None and caller.tenant in {None, found.filters.get("tenant")}
        if found is None or not mine or kind not in {None, found.kind}:
            raise ProblemError("not-found", "There is no such operation.")
        return found

    def _view(self, operation: Operation) -> OperationView:
        progress = self._work.progress(operation.id)
        here = progress is not None and progress.running
        unfinished = "running" if here else "interrupted"
        report = None if progress is None else progress.report
        return OperationView(
            id=operation.id,
            kind=operation.kind,
            status="finished" if operation.status == "finished" else unfinished,
            entries=operation.entries,
            done=None if progress is None else progress.done,
            before=None if report is None else report.before,
            expired=None if report is None else report.expired,
            by=operation.by,
            at=rfc3339(operation.at),
            reason=operation.reason,
            problem=None if progress is None else progress.problem,
        )


def planned(draft: Draft, most: int = _SHOWN) -> OperationView:
    """What a plan takes and what it leaves; so many refusals are named."""
    counts: Counter[str] = Counter()
    for where, offsets in draft.plan.offsets.items():
        counts[where.topic] += len(offsets)
    refused = draft.plan.refusals[:most]
    return OperationView(
        id=None,
        kind=draft.kind,
        status="planned",
        entries=len(draft.plan),
        by_topic=dict(counts),
        by_partition={f"{where.topic}/{where.partition}": len(found) for where, found in draft.plan.offsets.items()},
        refusals=len(draft.plan.refusals),
        refused=[RefusedView(ref=format_ref(one.where, one.offset), reason=one.reason) for one in refused],
        passed_over={str(state): count for state, count in draft.plan.passed_over.items()},
    )


def _accepted(view: OperationView, operation: Operation) -> web.Response:
    shown = view.model_copy(update={"id": operation.id, "status": "running", "entries": operation.entries})
    return json_answer(shown, HTTPStatus.ACCEPTED, {"Location": LOCATION + operation.id})


async def _ready(operation: Operation) -> Operation:
    return operation


def _rate(kind: Kind, asked: OperationRequest) -> float:
    return asked.rate if kind == "replay" else 0.0

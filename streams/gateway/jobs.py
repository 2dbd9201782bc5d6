"""``/api/v1/jobs``: submit a job, look at one."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from schemas.contract import InvalidPayloadError
from streams.door import ProblemError, RouteSpec
from streams.gateway import body
from streams.gateway.access import CALLER, Scope
from streams.gateway.intake import rfc3339
from streams.gateway.models import JobAccepted, JobRequest
from streams.gateway.problems import prefixed
from streams.gateway.submission import LOCATION
from streams.gateway.views import AttemptView, JobDetail, JobView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from schemas.contract import Contract
    from streams.gateway.lookup import Lookup
    from streams.gateway.submission import Submission
    from streams.history import JobRow
    from streams.job import Job


class JobRoutes:
    """The routes of jobs; ``jobs`` by type."""

    def __init__(self, jobs: Mapping[str, Job], submission: Submission, lookup: Lookup) -> None:
        self._jobs = jobs
        self._submission = submission
        self._lookup = lookup

    def specs(self, documented: type[BaseModel]) -> tuple[RouteSpec, ...]:
        """The routes; ``documented`` describes the bodies of all job types."""
        return (
            RouteSpec(
                method="POST",
                path="/api/v1/jobs",
                summary="Submit a job",
                scope=Scope.JOBS_WRITE,
                build=lambda _: self.post,
                body=documented,
                answer=JobAccepted,
                statuses={
                    202: "The broker has acknowledged the job.",
                    400: "The body does not fit, or the type is not known.",
                    401: "The credentials are missing or not valid.",
                    403: "The scope is missing, or the tenant is another one's.",
                    413: "The body is too large.",
                    415: "The body is not JSON.",
                    503: "The broker does not acknowledge, or too much is waiting.",
                },
            ),
            RouteSpec(
                method="GET",
                path=LOCATION + "{id}",
                summary="Look at a job",
                scope=Scope.JOBS_READ,
                build=lambda _: self.get,
                answer=JobDetail,
                statuses={
                    200: "The job as far as it is known.",
                    401: "The credentials are missing or not valid.",
                    403: "The scope is missing.",
                    404: "No job has this id, or it is another tenant's.",
                    503: "The history is away or too far behind to know.",
                },
            ),
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Submit a job."""
        asked = body.fitted(JobRequest, await body.read(request))
        job = self._jobs.get(asked.type)
        if job is None:
            raise unknown_type(asked.type, self._jobs)
        tenant = request[CALLER].acting_for(asked.tenant)
        payload = fitting(job.contract, asked.payload, "/payload")
        accepted = await self._submission.submit(asked.type, payload, tenant=tenant, entity=asked.key, job_id=asked.id)
        answer = JobAccepted(id=accepted.id, location=accepted.location, **accepted.position._asdict())
        return json_answer(answer, HTTPStatus.ACCEPTED, {"Location": accepted.location})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Look at a job."""
        found = await self._lookup.find(request.match_info["id"], request[CALLER].tenant)
        if found is None or not request[CALLER].sees(found.tenant):
            raise ProblemError("not-found", "No job has this id.")
        return json_answer(detail(found))


def fitting(contract: Contract, value: Any, pointer: str) -> BaseModel:
    """The value as a payload of the contract.

    Raises:
        ProblemError: It does not fit; the places are those of the whole body.
    """
    try:
        return contract.from_value(value)
    except InvalidPayloadError as error:
        errors = prefixed(pointer, error.problems)
        raise ProblemError(
            "invalid-request", f"The {pointer[1:]} does not fit {contract.name}.", errors=errors
        ) from None


def unknown_type(name: str, known: Mapping[str, object]) -> ProblemError:
    """The problem that lists what there is."""
    return ProblemError("unknown-type", f"There is no type {name!r}.", extra={"known": sorted(known)})


def view(row: JobRow) -> JobView:
    """The job as clients see it; the stack trace is for operators."""
    return JobView(
        id=row.job_id,
        type=row.type,
        queue=row.queue,
        tenant=row.tenant,
        key=row.key,
        status=row.status,
        attempt=row.attempt,
        replays=row.replays,
        payload=as_value(row.payload),
        result=as_value(row.result),
        error=row.error,
        worker=row.worker,
        topic=row.topic,
        partition=row.partition if row.partition >= 0 else None,
        offset=row.offset if row.offset >= 0 else None,
        created_at=rfc3339(row.created_at),
        started_at=_time(row.started_at),
        updated_at=rfc3339(row.updated_at),
        finished_at=_time(row.finished_at),
        due_at=_time(row.due_at),
    )


def detail(row: JobRow) -> JobDetail:
    """The job with its attempts."""
    attempts = [
        AttemptView(
            **{**each._asdict(), "started_at": _time(each.started_at), "ended_at": _time(each.ended_at)},
        )
        for each in row.attempts
    ]
    return JobDetail(**view(row).model_dump(), attempts=attempts)


def json_answer(
    model: BaseModel, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A model as the JSON answer."""
    return web.Response(text=model.model_dump_json(), status=status, content_type=body.JSON, headers=headers)


def as_value(text: str | None) -> Any:
    """The value of JSON text."""
    return None if text is None else json.loads(text)


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else rfc3339(milliseconds)

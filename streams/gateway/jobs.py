"""``/api/v1/jobs``: submit a job, or a batch of them, and look at one."""

from __future__ import annotations

import json
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic_core import to_json

from schemas.contract import InvalidPayloadError, Problem, pointer
from streams.door import ProblemError, RouteSpec
from streams.gateway import batches, body, idempotency, waiting
from streams.gateway.access import CALLER, Scope
from streams.gateway.batches import Asked, BatchAnswer
from streams.gateway.documented import batch_of
from streams.gateway.ids import uuid7
from streams.gateway.intake import rfc3339
from streams.gateway.models import JobAccepted
from streams.gateway.options import MOST_RECORDS, JobBatch, JobRequest, refused_queue
from streams.gateway.problems import prefixed
from streams.gateway.submission import LOCATION
from streams.gateway.views import AttemptView, JobDetail, JobView
from streams.gateway.waiting import HEADERS, WaitQuery
from streams.live.notice import Interest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from schemas.contract import Contract
    from streams.door import Accepted
    from streams.gateway.access import Caller
    from streams.gateway.idempotency import Given, Idempotency
    from streams.gateway.lookup import Lookup
    from streams.gateway.problems import Problems
    from streams.gateway.submission import Prepared, Submission
    from streams.gateway.waiting import Waiting
    from streams.history import JobRow
    from streams.job import Job


_WRITTEN = {
    401: "The credentials are missing or not valid.",
    403: "The scope is missing, or the tenant is another one's.",
    413: "The body is too large.",
    415: "The body is not JSON, or packed in another way than gzip or zstd.",
    503: "The broker does not acknowledge, or too much is waiting.",
    **idempotency.STATUSES,
}


class JobRoutes:
    """The routes of jobs; ``jobs`` by type."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        submission: Submission,
        lookup: Lookup,
        idempotency: Idempotency,
        waiting: Waiting,
        problems: Problems,
    ) -> None:
        self._jobs = jobs
        self._submission = submission
        self._lookup = lookup
        self._idempotency = idempotency
        self._waiting = waiting
        self._problems = problems

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
                query=WaitQuery,
                headers={**idempotency.HEADERS, **HEADERS},
                answer=JobAccepted,
                answers={HTTPStatus.OK: JobView},
                statuses={
                    200: "The job has ended while it was waited for.",
                    202: "The broker has acknowledged the job.",
                    400: "The body, a header or the query does not fit, or the type is not known.",
                    **_WRITTEN,
                },
            ),
            self._batch_spec(documented),
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

    def _batch_spec(self, documented: type[BaseModel]) -> RouteSpec:
        return RouteSpec(
            method="POST",
            path="/api/v1/jobs:batch",
            summary="Submit up to 1,000 jobs in their order",
            scope=Scope.JOBS_WRITE,
            build=lambda _: self.post_batch,
            body=batch_of(documented),
            headers=idempotency.HEADERS,
            answer=BatchAnswer,
            statuses={
                202: "The broker has acknowledged all jobs.",
                207: "Some jobs were taken, others were not.",
                400: "The body is no batch.",
                **_WRITTEN,
            },
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Submit a job."""
        wait = waiting.asked(request)
        asked = body.fitted(JobRequest, await body.read(request))
        given = await idempotency.given(request, asked.tenant)
        tenant = request[CALLER].acting_for(asked.tenant)
        job_id = _id(asked, given, 0)

        async def submitted() -> web.Response:
            accepted = await self._submission.submit_one(await self._prepared(asked, tenant, job_id, given, 0))
            return _accepted(accepted)

        interest = Interest(tenant=tenant, job=job_id)
        submit = partial(self._idempotency.run, given, submitted)
        return await self._waiting.answered(wait, interest, submit, lambda ended: json_answer(view(ended)))

    async def post_batch(self, request: web.Request) -> web.StreamResponse:
        """Submit jobs."""
        batch = body.fitted(JobBatch, await body.read(request, most=body.MOST_OF_BATCH))
        if len(batch.jobs) > MOST_RECORDS:
            raise ProblemError("too-large", f"A batch holds at most {MOST_RECORDS} jobs.")
        given = await idempotency.given(request, idempotency.named_tenant(batch.jobs))
        return await self._idempotency.run(given, partial(self._many, batch.jobs, request[CALLER], given))

    async def _many(self, jobs: list[Any], caller: Caller, given: Given | None) -> web.Response:
        asked = [
            Asked(partial(self._record, value, caller, given, number), partial(self._key, value, caller))
            for number, value in enumerate(jobs)
        ]
        ready = await batches.ready(asked)
        accepted: dict[int, dict[str, Any]] = {}
        ends = await self._submission.submit_all(list(ready.records.values()))
        for number, end in zip(ready.records, ends, strict=True):
            if isinstance(end, BaseException):
                ready.refused[number] = batches.told(end)
            else:
                accepted[number] = {"id": end.id, "location": end.location, **end.position._asdict()}
        return batches.answer(self._problems, len(jobs), accepted, ready.refused)

    async def _record(self, value: Any, caller: Caller, given: Given | None, number: int) -> Prepared:
        try:
            body.check_record(value)
            asked = body.fitted(JobRequest, value, "job")
            tenant = caller.acting_for(asked.tenant)
            return await self._prepared(asked, tenant, _id(asked, given, number), given, number)
        except ProblemError as error:
            error.errors = prefixed(pointer("jobs", number), error.errors)  # type: ignore[arg-type]  # all in the body
            raise

    async def _prepared(
        self, asked: JobRequest, tenant: str, job_id: str, given: Given | None, number: int
    ) -> Prepared:
        job = self._jobs.get(asked.type)
        if job is None:
            raise unknown_type(asked.type, self._jobs)
        if faults := refused_queue(asked.queue, job.queue):
            raise ProblemError("invalid-request", "The queue is not the type's.", errors=faults)
        payload = fitting(job.contract, asked.payload, "/payload")
        # A job without an id of its own has that of its request.
        request = None if given is None else (given.id(number) if asked.id else job_id)
        return await self._submission.prepared(
            asked.type, payload, tenant=tenant, entity=asked.key, job_id=job_id, request=request
        )

    def _key(self, value: Any, caller: Caller) -> object:
        """Of a job that may be none: its tenant and entity, as far as they can be told."""
        if not isinstance(value, dict):
            return None
        entity = value.get("key") or self._taken_from(value.get("type"), value.get("payload"))
        return (str(value.get("tenant") or caller.tenant), str(entity)) if entity else None

    def _taken_from(self, name: Any, payload: Any) -> object:
        job = self._jobs.get(name) if isinstance(name, str) else None
        if job is None or not isinstance(payload, dict):
            return None
        try:
            # What does not fit as a whole may still have what the key is made of.
            return job.key(job.contract.model.model_construct(**payload))
        except Exception:  # noqa: BLE001 - a function of the user's, given what it was not made for
            return None

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Look at a job."""
        found = await self._lookup.find(request.match_info["id"], request[CALLER].tenant)
        if found is None or not request[CALLER].sees(found.tenant):
            raise ProblemError("not-found", "No job has this id.")
        return json_answer(detail(found))


def fitting(contract: Contract, value: Any, place: str) -> BaseModel:
    """The value as a payload of the contract.

    Raises:
        ProblemError: It does not fit; the places are those of the whole body.
    """
    try:
        return contract.from_value(value)
    except InvalidPayloadError as error:
        errors = prefixed(place, error.problems)
        raise ProblemError("invalid-request", f"The {place[1:]} does not fit {contract.name}.", errors=errors) from None


def unknown_type(name: str, known: Mapping[str, object]) -> ProblemError:
    """The problem that lists what there is."""
    errors = (Problem("/type", "names no type there is"),)
    return ProblemError("unknown-type", f"There is no type {name!r}.", errors=errors, extra={"known": sorted(known)})


def _accepted(job: Accepted) -> web.Response:
    """The answer as ``JobAccepted`` describes it."""
    topic, partition, offset = job.position
    members = {"id": job.id, "status": "pending", "location": job.location}
    text = to_json({**members, "topic": topic, "partition": partition, "offset": offset}).decode()
    return web.Response(
        text=text, status=HTTPStatus.ACCEPTED, content_type=body.JSON, headers={"Location": job.location}
    )


def _id(asked: JobRequest, given: Given | None, number: int) -> str:
    return asked.id or (uuid7() if given is None else given.id(number))


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

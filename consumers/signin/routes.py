"""``POST /api/jobs/signin-notification`` and ``GET /api/jobs/{id}``, as sign-in callbacks know them.

Invariant: a place under the hourly limit is taken before the job is published, in one step with the check that its id
is new, and given back when the broker does not take the job. An id is known for long only once the broker has the job,
so that a gateway's death never makes a duplicate of a job nobody has. Without Redis nothing is accepted.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from aiohttp import web
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from consumers.signin.limit import member_of, subject_of, window
from schemas.fields import PayloadModel
from schemas.notification_signin.model import CONTRACT, Signin
from streams.adapters.redis import RedisAwayError, Verdict
from streams.door import ProblemError, RouteSpec
from streams.gateway.access import Scope
from streams.gateway.models import Id, Tenant  # noqa: TC001 - the model below is made with them
from streams.gateway.views import JobView
from streams.job import TransientError
from streams.ports import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.adapters.redis import Admission
    from streams.door import Door

_LOG = structlog.get_logger(__name__)

DEFAULT_TENANT = "default"
PENDING_FOR = 15.0  # seconds a job id is refused while its first request is under way: more than the door's patience
KNOWN_FOR = 48 * 3600.0  # seconds it is refused once the broker has the job

_OWN_FIELDS = {"job_id", "tenant"}


class SigninRequest(Signin):
    """The body: the fields of the payload in camel case or snake case.

    Attributes:
        job_id: Makes the request safe to repeat; by default a new UUID.
        tenant: Whose site it is; by default the caller's tenant, else ``default``.
    """

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)

    job_id: Id | None = None
    tenant: Tenant | None = None


class SigninAccepted(PayloadModel):
    """The answer: the job's id, and the path where it can be looked at."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    job_id: str
    location: str


_REQUEST = replace(CONTRACT, model=SigninRequest)


def _post(door: Door) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def post(request: web.Request) -> web.StreamResponse:
        body: SigninRequest = await door.payload(request, _REQUEST)
        job_id = body.job_id or str(uuid4())
        await _accept(door, body, job_id, door.tenant(request, body.tenant, default=DEFAULT_TENANT))
        answer = SigninAccepted(job_id=job_id, location=f"/api/jobs/{job_id}")
        return web.json_response(
            answer.model_dump(by_alias=True), status=HTTPStatus.ACCEPTED, headers={"Location": answer.location}
        )

    return post


async def _accept(door: Door, body: SigninRequest, job_id: str, tenant: str) -> None:
    signin = Signin.model_validate(body.model_dump(exclude=_OWN_FIELDS))
    limit = window(door.redis, door.options)
    subject, member, token = subject_of(tenant, signin), member_of(tenant, job_id), uuid4().hex
    try:
        _refuse(await limit.reserve(subject, member, token=token, seconds=PENDING_FOR), job_id)
    except RedisAwayError as error:
        raise _internal("The limit of sign-in e-mails cannot be checked", job_id) from error
    try:
        await door.submit_job(CONTRACT, signin, tenant=tenant, job_id=job_id)
    except (ProblemError, RecordRefusedError, TransientError) as error:
        await _noted(limit.give_back(subject, member, token=token), job_id)
        raise _internal("The broker did not acknowledge the job", job_id) from error
    await _noted(limit.keep(member, token=token, seconds=KNOWN_FOR), job_id)


async def _noted(step: Awaitable[None], job_id: str) -> None:
    try:
        await step
    except RedisAwayError as error:
        # The broker's answer is what the client has to know; the worker tells twins apart by itself.
        _LOG.warning("outcome not noted in redis", job=job_id, error=str(error))


def _refuse(admission: Admission, job_id: str) -> None:
    if admission.verdict is Verdict.DUPLICATE:
        raise ProblemError("duplicate", f"A job with this id was accepted before; see /api/jobs/{job_id}.")
    if admission.verdict is Verdict.FULL:
        raise ProblemError(
            "rate-limited",
            "This user has had the sign-in e-mails of an hour; the job is not accepted.",
            retry_after=max(1, ceil(admission.retry_after)),
            extra={"job_id": job_id},
        )


def _internal(what: str, job_id: str) -> ProblemError:
    detail = f"{what}; send the request again in a moment, with this job id, which makes that safe."
    return ProblemError("internal", detail, extra={"job_id": job_id})


def _get(door: Door) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def get(request: web.Request) -> web.StreamResponse:
        job: dict[str, Any] | None = await door.job(request, request.match_info["id"])
        if job is None:
            raise ProblemError("not-found", "No job has this id.")
        return web.json_response(job)

    return get


ROUTES = (
    RouteSpec(
        method="POST",
        path="/api/jobs/signin-notification",
        summary="Send a user an e-mail about a sign-in",
        scope=Scope.JOBS_WRITE,
        repeatable=True,
        build=_post,
        statuses={
            202: "The broker has the job.",
            400: "The body does not fit; the places are named.",
            401: "The credentials are missing or not valid.",
            403: "The scope is missing, or the tenant is another one's.",
            409: "A job with this id was accepted within the last 48 hours, or the Idempotency-Key is under way.",
            413: "The body is too large.",
            415: "The body is not JSON.",
            429: "The user has had the e-mails of an hour; Retry-After says when there is room again.",
            500: "The broker or the limiter is away; nothing was sent, the request may be repeated.",
        },
        body=SigninRequest,
        answer=SigninAccepted,
    ),
    RouteSpec(
        method="GET",
        path="/api/jobs/{id}",
        summary="Look at a job",
        scope=Scope.JOBS_READ,
        build=_get,
        statuses={
            200: "The job as far as it is known.",
            401: "The credentials are missing or not valid.",
            403: "The scope is missing.",
            404: "No job has this id, or it is another tenant's.",
            503: "The history is away or too far behind to know.",
        },
        answer=JobView,
    ),
)

"""What the gateway gives to HTTP routes, its own and consumers', and what a route says about itself.

Invariant: ``/openapi.json`` is made from what is served under a ``RouteSpec``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from aiohttp import web
    from pydantic import BaseModel
    from redis.asyncio import Redis

    from schemas.contract import Contract, Problem
    from streams.history import JobFilters, JobRow, Mark
    from streams.ports import Position, TopicPartition


class Progress(Protocol):
    """How far a consumer group has come with a topic."""

    async def ends(self) -> Mapping[TopicPartition, int]:
        """Where the topic's partitions end now.

        Raises:
            TransientError: The broker did not answer, or the topic does not exist.
        """

    async def reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether the group has finished everything before these offsets.

        Raises:
            TransientError: The broker did not answer.
        """


class JobHistory(Protocol):
    """Reads what the ``job-status`` topic said about jobs."""

    async def find(self, job_id: str, tenant: str | None = None) -> JobRow | None:
        """The job, or None if its first status has not been stored (yet).

        Without a tenant the one that changed last, where several tenants have a job of this id.

        Raises:
            TransientError: The database is away.
        """

    async def page(self, filters: JobFilters, behind: Mark | None, most: int) -> list[JobRow]:
        """At most so many of the jobs that are meant, the newest first, without their steps; those ``behind`` a mark.

        Raises:
            TransientError: The database is away.
        """


class Tickets(Protocol):
    """Hands out what proves, once and for a short while, that somebody was there before."""

    async def issue(self, holder: str) -> str:
        """A ticket for the holder.

        Raises:
            TransientError: Nobody keeps it now.
        """

    async def take(self, ticket: str) -> str | None:
        """The holder of a ticket, which is worth nothing any more; None where there is no such ticket.

        Raises:
            TransientError: Nobody can tell now.
        """


class HeaderProblem(NamedTuple):
    """What is wrong with a header of the request."""

    header: str
    detail: str


class ProblemError(Exception):
    """A request that is not carried out; the gateway turns it into an RFC 9457 answer.

    Args:
        kind: A key of ``KINDS`` in ``streams/gateway/problems.py``, which gives status and title, for example
            ``invalid-request`` 400, ``not-found`` 404, ``duplicate`` 409, ``rate-limited`` 429, ``internal`` 500,
            ``unavailable`` 503.
        detail: One sentence for the client; says what to do next and repeats no secret.
        errors: The places at fault in the body, or the headers.
        retry_after: Whole seconds, becomes the ``Retry-After`` header.
        extra: Further members of the answer; names of three or more characters.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[Problem | HeaderProblem] = (),
        retry_after: int | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job the broker has acknowledged; ``location`` is the path where it can be looked at."""

    id: str
    location: str
    position: Position


class Door(Protocol):
    """What the gateway gives to consumers' own routes."""

    @property
    def redis(self) -> Redis:
        """For limits and duplicates; may be away (``redis.exceptions.RedisError``)."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What consumers want from the settings: the catalogue's ``options``."""

    async def payload(self, request: web.Request, contract: Contract) -> Any:
        """The JSON body of the request as a payload of the contract.

        Raises:
            ProblemError: The body is too long, not JSON, too deep, of another media type or does not fit.
        """

    def tenant(self, request: web.Request, named: str | None, *, default: str) -> str:
        """The tenant of what the caller of a guarded route sends.

        Args:
            request: Its request.
            named: The tenant that the body names, if any.
            default: For a caller who belongs to no tenant and names none.

        Raises:
            ProblemError: It is not the caller's (``forbidden``).
        """

    async def submit_job(
        self, contract: Contract, payload: Any, *, tenant: str, entity: str | None = None, job_id: str | None = None
    ) -> Accepted:
        """Publish a job and its ``pending`` status with ``acks=all``.

        Args:
            contract: Of a job in the catalogue.
            payload: A model of the contract, as ``payload`` returns it.
            tenant: The tenant part of the record key.
            entity: The entity part; by default the job's own ``key`` gives it.
            job_id: By default a new UUIDv7.

        Raises:
            ProblemError: The broker does not acknowledge (``unavailable``); the job may or may not be stored.
        """

    async def job(self, request: web.Request, job_id: str) -> dict[str, Any] | None:
        """The job as ``GET /api/v1/jobs/{id}`` shows it to the caller of a guarded route, None where there is none.

        Never None for a job of the caller's tenant that was accepted before.

        Raises:
            ProblemError: The history is away or too far behind to know (``unavailable``).
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """An HTTP route and its documentation: ``/openapi.json`` is made from these.

    Attributes:
        path: As aiohttp writes it, for example ``/api/jobs/{id}``.
        build: Makes the handler, once, from what the gateway gives.
        body: The model of the JSON body.
        other_bodies: Models of the body in further media types, by media type.
        query: The model of the query parameters.
        headers: Headers of the request, each as OpenAPI describes a parameter.
        repeatable: Whether it takes something in that is taken in once for one ``Idempotency-Key``; the body is JSON.
        answer: The model of the successful answer, of the media type ``answer_type``.
        answers: Models of successful answers that differ from it, by status.
        scope: What a caller must have, a value of ``streams.gateway.access.Scope``; None: it is for everybody.
        statuses: What each status means; those from 400 up are answered as problems, unless ``answers_errors``.
    """

    method: str
    path: str
    summary: str
    build: Callable[[Door], Callable[[web.Request], Awaitable[web.StreamResponse]]]
    statuses: Mapping[int, str]
    body: type[BaseModel] | None = None
    other_bodies: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    query: type[BaseModel] | None = None
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answer: type[BaseModel] | None = None
    answer_type: str = "application/json"
    answers: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    scope: str | None = None
    repeatable: bool = False
    answers_errors: bool = False

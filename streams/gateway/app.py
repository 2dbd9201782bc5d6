"""Puts the gateway's routes together: its own, those of consumers, the registry's, and the pages that describe them.

Invariant: what is served under a ``RouteSpec`` is what ``/openapi.json`` describes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from streams.gateway import body
from streams.gateway.access import OpenAccess, Scope, guarded
from streams.gateway.acts import LoggedAudit, told
from streams.gateway.deadletters import DeadLetterRoutes
from streams.gateway.dltwork import DltWork
from streams.gateway.documented import cloud_events, event_bodies, job_bodies
from streams.gateway.door import GatewayDoor
from streams.gateway.driving import DrivingRoutes
from streams.gateway.events import EventRoutes
from streams.gateway.figures import FigureRoutes
from streams.gateway.health import Health
from streams.gateway.idempotency import KEEP, Idempotency
from streams.gateway.intake import LIMIT, LIMIT_BYTES, PATIENCE, Intake
from streams.gateway.joblist import JobListRoutes
from streams.gateway.jobs import JobRoutes
from streams.gateway.keys import KeyRoutes
from streams.gateway.letters import LetterRoutes
from streams.gateway.limits import Limits
from streams.gateway.live import LiveRoutes
from streams.gateway.looks import LookRoutes
from streams.gateway.lookup import PATIENCE as LOOKUP_PATIENCE
from streams.gateway.lookup import Lookup
from streams.gateway.middleware import Around
from streams.gateway.openapi import document
from streams.gateway.pages import Pages
from streams.gateway.peers import PEERS, Origins, Peers
from streams.gateway.problems import Problems
from streams.gateway.replaying import ReplayRoutes
from streams.gateway.submission import Submission
from streams.gateway.system import LoopLag, System
from streams.gateway.tickets import Ticketed, TicketRoutes
from streams.gateway.traced import traced
from streams.gateway.waiting import Waiting
from streams.rates import LocalRates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from redis.asyncio import Redis

    from schemas.codec import Codec
    from schemas.contract import Contract
    from streams.audit import Audit
    from streams.deadletters.operation import Operations
    from streams.deadletters.reading import DeadLetters
    from streams.door import JobHistory, Progress, RouteSpec, Tickets
    from streams.gateway.access import Access
    from streams.gateway.health import HealthCheck
    from streams.gateway.keys import Keyring
    from streams.gateway.looks import Looks
    from streams.gateway.queues import Queues
    from streams.job import Catalogue
    from streams.live.feed import Feed
    from streams.live.rewind import Rewind
    from streams.metrics import Metrics, Shown
    from streams.ports import Publisher, Requests, Tracing

HEALTH = web.AppKey("health", Health)
"""The application's ``Health``: whoever runs the application sets ``started`` and ``stopping``."""

ROUTES = web.AppKey[tuple["RouteSpec", ...]]("routes", tuple)
"""What the application serves under a ``RouteSpec``."""

# What changes under the other scopes is written down by the routes themselves, with what was before and after.
_ACTS_FOR_TENANTS = {Scope.EVENTS_WRITE, Scope.JOBS_WRITE}


class ShownMetrics(Protocol):
    """Metrics that can be shown."""

    content_type: str

    def text(self) -> bytes:
        """All of them, for Prometheus."""

    def shown(self) -> Sequence[Shown]:
        """All of them as they stand."""


def _no_limits() -> Limits:
    rates = LocalRates(time.monotonic)
    return Limits((), rates, rates, address=Peers(()).address, clock=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the gateway is made of.

    Attributes:
        shown: What ``/metrics`` answers; usually the same object as ``metrics``.
        registry: The schema registry's sub-application, served under ``/registry``.
        access: Tells who asks.
        limits: How often.
        peers: Tells where requests come from.
        origins: The pages of other origins that may send requests.
        audit: Keeps the acts of administrators.
        keyring: The API keys, where there are any.
        operations: Makes what replays and discards dead letters, for a caller of that name.
        looks: Looks at keys, groups and topics.
        feed: Tells what happens, as it happens; it is run with the application.
        rewind: Tells what happened before.
        tickets: For those who listen without headers.
        tracing: Makes spans; None where nobody wants any.
        base_url: Where clients reach the gateway; starts the types of problems.
        events: Writes events, where they are not written as all else is: acknowledged by the leader alone.
        requests: Remembers requests by their Idempotency-Key.
        idempotency_keep: Seconds the answer to such a request is kept.
        body_patience: Seconds a body may take.
        unacknowledged: Records that may wait for the broker at once.
        unacknowledged_bytes: The same for their bytes.
        patience: Seconds a record may wait for it.
        lookup_patience: Seconds a look at a job may wait for the history.
    """

    publisher: Publisher
    codec: Codec
    contracts: Sequence[Contract]
    catalogue: Catalogue
    history: JobHistory
    progress: Progress
    letters: DeadLetters
    operations: Callable[[str], Operations]
    looks: Looks
    feed: Feed
    rewind: Rewind
    tickets: Tickets
    queues: Queues
    redis: Redis
    requests: Requests
    metrics: Metrics
    shown: ShownMetrics
    base_url: str
    version: str
    max_body_bytes: int
    access: Access = field(default_factory=OpenAccess)
    limits: Limits = field(default_factory=_no_limits)
    peers: Peers = field(default_factory=lambda: Peers(()))
    origins: Origins = field(default_factory=lambda: Origins(()))
    audit: Audit = field(default_factory=LoggedAudit)
    keyring: Keyring | None = None
    tracing: Tracing | None = None
    registry: web.Application | None = None
    checks: Sequence[HealthCheck] = ()
    events: Publisher | None = None
    idempotency_keep: float = KEEP
    body_patience: float = 30.0
    unacknowledged: int = LIMIT
    unacknowledged_bytes: int = LIMIT_BYTES
    patience: float = PATIENCE
    lookup_patience: float = LOOKUP_PATIENCE


def create_app(parts: Parts) -> web.Application:
    """The gateway as an application, ready to be run."""
    problems = Problems(parts.base_url)
    around = Around(problems, parts.metrics, parts.peers, parts.origins, secure=parts.base_url.startswith("https:"))
    outermost = () if parts.tracing is None else (traced(parts.tracing),)
    app = web.Application(middlewares=[*outermost, around.middleware], client_max_size=parts.max_body_bytes)
    app.on_response_prepare.append(around.prepare)
    app[body.PATIENCE] = parts.body_patience
    intake = _intake(parts)
    jobs = {job.type: job for job in parts.catalogue.jobs}
    submission = Submission(intake, jobs, parts.metrics)
    lookup = Lookup(parts.history, parts.progress, patience=parts.lookup_patience)
    work = DltWork()
    idempotency = Idempotency(parts.requests, parts.metrics, keep=parts.idempotency_keep)
    waiting = Waiting(parts.feed, parts.history)
    app[HEALTH] = Health(parts.checks, parts.version)
    events = {contract.name: contract for contract in parts.contracts if contract.kind == "event"}
    examples = {example["type"]: example for example in reversed(parts.catalogue.examples)}
    specs = (
        *JobRoutes(jobs, submission, lookup, idempotency, waiting, problems).specs(
            job_bodies([job.contract for job in jobs.values()], examples)
        ),
        *_seeing(parts, lookup, work),
        *EventRoutes(
            events, intake, idempotency, problems, parts.metrics, acks="all" if parts.events is None else "leader"
        ).specs(event_bodies(events.values(), examples), cloud_events(events.values(), examples)),
        *idempotency.specs(),
        *DeadLetterRoutes(parts.letters).specs(),
        *(() if parts.keyring is None else KeyRoutes(parts.keyring).specs()),
        *map(idempotency.around, parts.catalogue.routes),
        *app[HEALTH].specs(),
        *FigureRoutes(parts.shown.shown, parts.queues, System(parts.version, _measured(app))).specs(),
    )
    app[ROUTES], app[PEERS] = specs, parts.peers
    _serve(app, specs, parts, GatewayDoor(submission, lookup, parts.redis, parts.catalogue.options))
    _serve_pages(app, specs, parts)

    async def close(_app: web.Application) -> None:
        await submission.close()
        await work.stop()

    async def let_go(_app: web.Application) -> None:
        parts.feed.stop()  # before the server waits for requests to end: these never do by themselves

    app.on_shutdown.append(let_go)
    app.on_cleanup.append(close)
    app.cleanup_ctx.append(partial(_fed, parts.feed))
    return app


def _seeing(parts: Parts, lookup: Lookup, work: DltWork) -> tuple[RouteSpec, ...]:
    """The routes that show what there is, and drive it."""
    replays = ReplayRoutes(parts.letters, parts.operations, work, parts.audit)
    return (
        *JobListRoutes(parts.history).specs(),
        *DrivingRoutes(lookup, parts.publisher, parts.audit, parts.letters, replays, patience=parts.patience).specs(),
        *LetterRoutes(parts.letters, parts.codec).specs(),
        *replays.specs(),
        *LookRoutes(parts.looks).specs(),
        *LiveRoutes(parts.feed, parts.rewind, parts.metrics, parts.origins).specs(),
        *TicketRoutes(parts.tickets).specs(),
    )


def _intake(parts: Parts) -> Intake:
    return Intake(
        parts.publisher,
        parts.codec,
        parts.metrics,
        events=parts.events,
        limit=parts.unacknowledged,
        limit_bytes=parts.unacknowledged_bytes,
        patience=parts.patience,
    )


async def _fed(feed: Feed, _app: web.Application) -> AsyncIterator[None]:
    reading = asyncio.create_task(feed.run())
    yield
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


def _measured(app: web.Application) -> LoopLag:
    lag = LoopLag()

    async def measuring(_app: web.Application) -> AsyncIterator[None]:
        lag.start()
        yield
        lag.stop()

    app.cleanup_ctx.append(measuring)
    return lag


def _serve(app: web.Application, specs: Sequence[RouteSpec], parts: Parts, door: GatewayDoor) -> None:
    access = Ticketed(parts.access, parts.tickets)
    for spec in specs:
        handler = spec.build(door)
        if spec.scope in _ACTS_FOR_TENANTS and spec.method != "GET":
            handler = told(parts.audit, handler)
        if spec.scope is not None:
            handler = guarded(access, parts.limits, spec, spec.scope, handler)
        app.router.add_route(spec.method, spec.path, handler)


def _serve_pages(app: web.Application, specs: Sequence[RouteSpec], parts: Parts) -> None:
    api = document(specs, title="keylane gateway", version=parts.version, server=parts.base_url)
    app.add_routes(Pages(api).routes())

    async def metrics(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=parts.shown.text(), headers={"Content-Type": parts.shown.content_type})

    app.add_routes([web.get("/metrics", metrics), web.get("/api/v1/metrics", metrics)])
    if parts.registry is not None:
        app.add_subapp("/registry", parts.registry)

"""Every route that is served, asked by a stranger and by an administrator of another tenant: nothing leaks.

A new guarded route needs a row in ``TRIES``: how another tenant would ask for, or act on, what is ``steppe``'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from consumers import discover
from schemas.job_status.model import Status
from streams.core import headers as h
from streams.deadletters.ledger import Operation
from streams.gateway.access import Scope
from streams.gateway.app import ROUTES
from streams.ports import Message
from streams.settings import Settings
from tests.access_doubles import Gate, bearer
from tests.gateway_doubles import EVENT, JOB, PAYLOAD, Bench

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.test_utils import TestClient

    from streams.door import RouteSpec
    from streams.keys import Issued

OURS, THEIRS = "steppe", "forest"
MARK = "only-steppe-knows"
"""Stands in all that is steppe's."""

PUBLIC = {
    ("GET", prefix + path)
    for prefix in ("", "/api/v1")
    for path in ("/health", "/health/live", "/health/ready", "/health/startup", "/metrics")
} | {("GET", page) for page in ("/openapi.json", "/docs", "/problems/", "/problems/{kind}")}
"""What everybody may ask: the state of the process, and descriptions."""

FIGURES = ("/metrics/json", "/metrics/queue-stats", "/metrics/system")
"""Of all tenants together: for nobody who belongs to one."""


@dataclass(frozen=True)
class Try:
    """A request for what is steppe's; ``status`` is what the other tenant's administrator gets.

    ``ours`` is what steppe's own gets, None where it needs servers; ``{id}`` and the like are filled in.
    """

    status: int
    ours: int | None
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    names: Mapping[str, str] = field(default_factory=dict)


CARRIED_OUT = {"dry_run": False}
LETTER = "jobs.emails.emails.dlt/0/0"
TAKES = [
    Try(200, 202, body=CARRIED_OUT),
    Try(200, 202, body=CARRIED_OUT | {"refs": [LETTER]}),
    Try(403, 202, body=CARRIED_OUT | {"tenant": OURS}),
    Try(404, 202, body=CARRIED_OUT | {"resume": "r-1"}),
]
SIGNIN = {**PAYLOAD, "name": MARK, "tenant": OURS}
TRIES = {
    ("POST", "/api/v1/jobs"): [Try(403, 202, body=JOB)],
    ("POST", "/api/v1/jobs:batch"): [Try(207, 202, body={"jobs": [JOB]})],
    ("GET", "/api/v1/jobs/{id}"): [Try(404, 200)],
    ("GET", "/api/v1/jobs"): [Try(200, 200), Try(403, 200, {"tenant": OURS})],
    ("POST", "/api/v1/jobs/{id}/cancel"): [Try(404, 202, names={"id": "job-2"})],
    ("POST", "/api/v1/jobs/{id}/retry"): [Try(404, 202, names={"id": "job-3"})],
    ("GET", "/api/v1/dlt"): [Try(200, 200), Try(403, 200, {"tenant": OURS})],
    ("GET", "/api/v1/dlt/{topic}/{partition}/{offset}"): [Try(404, 200)],
    ("POST", "/api/v1/dlt:replay"): TAKES,
    ("POST", "/api/v1/dlt:discard"): TAKES[:-1],
    ("GET", "/api/v1/dlt/operations/{id}"): [Try(404, 200, names={"id": "r-1"})],
    ("GET", "/api/v1/lanes/{key}"): [Try(404, 200)],
    ("GET", "/api/v1/queues"): [Try(403, None)],
    ("GET", "/api/v1/topics"): [Try(403, None)],
    ("GET", "/api/v1/stream"): [Try(403, None, {"tenant": OURS})],
    ("GET", "/api/v1/ws"): [Try(403, None, {"tenant": OURS})],
    ("POST", "/api/v1/stream-tickets"): [Try(201, None)],
    ("GET", "/api/v1/idempotency/stats"): [Try(403, None)],
    ("POST", "/api/v1/events"): [Try(403, 202, body=EVENT)],
    ("GET", "/api/admin/dlq"): [Try(200, 200), Try(200, 200, {"tenant": OURS})],
    ("POST", "/api/v1/keys"): [Try(403, 201, body={"name": MARK, "scopes": ["jobs:write"], "tenant": OURS})],
    ("GET", "/api/v1/keys"): [Try(200, 200), Try(403, 200, {"tenant": OURS})],
    ("DELETE", "/api/v1/keys/{prefix}"): [Try(404, 200)],
    ("POST", "/api/jobs/signin-notification"): [Try(403, None, body=SIGNIN)],
    ("GET", "/api/jobs/{id}"): [Try(404, 200)],
} | {("GET", prefix + path): [Try(403, None)] for prefix in ("", "/api/v1") for path in FIGURES}


class World:
    """A gateway of the example deployment with something of steppe's behind each of its routes."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.bench: Bench = self.gate.bench()
        self.bench.catalogue = discover(Settings(_env_file=None))
        self.victim = self.gate.key(Scope.JOBS_READ, tenant=OURS, name=MARK)
        self.admins = {tenant: self.gate.key(Scope.ADMIN, tenant=tenant) for tenant in (OURS, THEIRS)}
        place = dict(zip(("topic", "partition", "offset"), LETTER.split("/"), strict=True))
        self.names = {"id": "job-1", "prefix": self.victim.key.prefix, "key": f"{OURS}/{MARK}", **place}
        for job_id, status in (("job-1", "completed"), ("job-2", "pending"), ("job-3", "dead")):
            self.bench.history.store(_job(job_id, status))
        origin = [(h.ORIGIN_TOPIC, b"jobs.emails"), (h.ORIGIN_PARTITION, b"0"), (h.ORIGIN_OFFSET, b"0")]
        letter = [("ce_type", b"notification.signin"), (h.EXCEPTION, b"x.Boom"), (h.MESSAGE, MARK.encode()), *origin]
        operation = Operation(id="r-1", kind="replay", by="us", at=1, reason=MARK, filters={"tenant": OURS}, claims=1)
        self.bench.log.messages += [
            Message("jobs.emails.emails.dlt", f"{OURS}/u".encode(), b"bytes", letter),
            operation.message,
        ]

    def state(self) -> tuple[Any, ...]:
        """All that somebody could have changed."""
        return list(self.bench.log.messages), dict(self.gate.store.keys), dict(self.bench.history.rows)

    async def ask(self, client: TestClient[Any, Any], route: tuple[str, str], one: Try, key: Issued | None) -> Any:
        method, path = route
        headers = {} if key is None else bearer(key)
        asked = path.format(**{**self.names, **one.names})
        return await client.request(method, asked, params=one.query, json=one.body, headers=headers)


def _job(job_id: str, status: Any) -> Status:
    return Status(
        job_id=job_id,
        type="notification.signin",
        queue="emails",
        tenant=OURS,
        key=f"{OURS}/{MARK}",
        status=status,
        attempt=1,
        replays=0,
        time=1,
        topic="jobs.emails",
        partition=0,
        offset=0,
    )


def route_of(spec: RouteSpec) -> tuple[str, str]:
    """Its method, and its path as aiohttp calls it."""
    return spec.method, re.sub(r"{(\w+):[^}]*}", r"{\1}", spec.path)


def test_every_route_is_guarded_by_a_scope_or_is_public_on_purpose() -> None:
    world = World()
    app = world.bench.app()
    specs = {route_of(spec): spec.scope for spec in app[ROUTES]}
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert {route for route in served if specs.get(route) is None} == PUBLIC
    every = [(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None]
    assert sorted(every) == sorted(set(every)), "a route is served once"
    assert set(specs.values()) - {None} <= set(Scope)


def test_every_guarded_route_is_tried() -> None:
    guarded = {route_of(spec) for spec in World().bench.app()[ROUTES] if spec.scope is not None}
    assert guarded == set(TRIES)


@pytest.mark.parametrize("route", TRIES, ids=" ".join)
async def test_another_tenants_administrator_sees_and_changes_nothing(route: tuple[str, str]) -> None:
    for one in TRIES[route]:
        world = World()
        async with world.bench.client() as client:
            before = world.state()
            answer = await world.ask(client, route, one, world.admins[THEIRS])
            said = (await answer.text()).replace(answer.url.raw_path, "")  # a problem repeats what was asked for
            assert answer.status == one.status, said
            assert MARK not in said
            assert OURS not in said
            assert MARK not in str(answer.headers)
            assert world.state() == before


@pytest.mark.parametrize("route", list(TRIES), ids=" ".join)
async def test_what_is_hidden_from_others_is_there_for_its_own_tenant(route: tuple[str, str]) -> None:
    for one in TRIES[route]:
        world = World()
        if one.ours is None:
            continue
        async with world.bench.client() as client:
            before = world.state()
            answer = await world.ask(client, route, one, world.admins[OURS])
            said = await answer.text()
            assert answer.status == one.ours, said
            assert MARK in said or world.state() != before


@pytest.mark.parametrize("route", TRIES, ids=" ".join)
async def test_a_stranger_is_asked_for_credentials_and_a_caller_for_the_scope(route: tuple[str, str]) -> None:
    world = World()
    (spec,) = (spec for spec in world.bench.app()[ROUTES] if route_of(spec) == route)
    others = set(Scope) - {spec.scope, Scope.ADMIN}
    unscoped = world.gate.key(*others, tenant=OURS)
    async with world.bench.client() as client:
        before = world.state()
        for one in TRIES[route]:
            stranger = await world.ask(client, route, one, None)
            assert stranger.status == 401
            assert "WWW-Authenticate" in stranger.headers
            assert (await world.ask(client, route, one, unscoped)).status == 403
        assert world.state() == before
    assert {401, 403} <= set(spec.statuses)

"""Every route that is served, asked by a stranger and by an administrator of another tenant: nothing leaks.

A new guarded route needs a row in ``TRIES``: how another tenant would ask for, or act on, what is ``steppe``'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from consumers import discover
from schemas.job_status.model import Status
from streams.core import headers as h
from streams.gateway.access import Scope
from streams.gateway.app import ROUTES
from streams.ports import Message
from streams.settings import Settings
from tests.access_doubles import Gate, bearer
from tests.gateway_doubles import EVENT, JOB, PAYLOAD, Bench

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.test_utils import TestClient

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


@dataclass(frozen=True)
class Try:
    """A request for what is steppe's; ``status`` is what the other tenant's administrator gets.

    ``ours`` is what steppe's own gets, None where it needs servers; ``{id}`` and the like are filled in.
    """

    status: int
    ours: int | None
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


SIGNIN = {**PAYLOAD, "name": MARK, "tenant": OURS}
TRIES = {
    ("POST", "/api/v1/jobs"): [Try(403, 202, body=JOB)],
    ("POST", "/api/v1/jobs:batch"): [Try(207, 202, body={"jobs": [JOB]})],
    ("GET", "/api/v1/jobs/{id}"): [Try(404, 200)],
    ("GET", "/api/v1/idempotency/stats"): [Try(403, None)],
    ("POST", "/api/v1/events"): [Try(403, 202, body=EVENT)],
    ("GET", "/api/admin/dlq"): [Try(200, 200), Try(200, 200, {"tenant": OURS})],
    ("POST", "/api/v1/keys"): [Try(403, 201, body={"name": MARK, "scopes": ["jobs:write"], "tenant": OURS})],
    ("GET", "/api/v1/keys"): [Try(200, 200), Try(403, 200, {"tenant": OURS})],
    ("DELETE", "/api/v1/keys/{prefix}"): [Try(404, 200)],
    ("POST", "/api/jobs/signin-notification"): [Try(403, None, body=SIGNIN)],
    ("GET", "/api/jobs/{id}"): [Try(404, 200)],
}


class World:
    """A gateway of the example deployment with something of steppe's behind each of its routes."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.bench: Bench = self.gate.bench()
        self.bench.catalogue = discover(Settings(_env_file=None))
        self.victim = self.gate.key(Scope.JOBS_READ, tenant=OURS, name=MARK)
        self.admins = {tenant: self.gate.key(Scope.ADMIN, tenant=tenant) for tenant in (OURS, THEIRS)}
        self.names = {"id": "job-1", "prefix": self.victim.key.prefix}
        self.bench.history.store(
            Status(
                job_id="job-1",
                type="notification.signin",
                queue="emails",
                tenant=OURS,
                key=f"{OURS}/{MARK}",
                status="completed",
                attempt=1,
                replays=0,
                time=1,
                topic="jobs.emails",
                partition=0,
                offset=0,
            )
        )
        letter = [("ce_type", b"notification.signin"), (h.EXCEPTION, b"x.Boom"), (h.MESSAGE, MARK.encode())]
        self.bench.log.messages.append(Message("jobs.emails.emails.dlt", f"{OURS}/u".encode(), b"bytes", letter))

    def state(self) -> tuple[Any, ...]:
        """All that somebody could have changed."""
        return list(self.bench.log.messages), dict(self.gate.store.keys), dict(self.bench.history.rows)

    async def ask(self, client: TestClient[Any, Any], route: tuple[str, str], one: Try, key: Issued | None) -> Any:
        method, path = route
        headers = {} if key is None else bearer(key)
        return await client.request(method, path.format(**self.names), params=one.query, json=one.body, headers=headers)


def test_every_route_is_guarded_by_a_scope_or_is_public_on_purpose() -> None:
    world = World()
    app = world.bench.app()
    specs = {(spec.method, spec.path): spec.scope for spec in app[ROUTES]}
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert {route for route in served if specs.get(route) is None} == PUBLIC
    assert set(specs.values()) - {None} <= set(Scope)


def test_every_guarded_route_is_tried() -> None:
    guarded = {(spec.method, spec.path) for spec in World().bench.app()[ROUTES] if spec.scope is not None}
    assert guarded == set(TRIES)


@pytest.mark.parametrize("route", TRIES, ids=" ".join)
async def test_another_tenants_administrator_sees_and_changes_nothing(route: tuple[str, str]) -> None:
    for one in TRIES[route]:
        world = World()
        async with world.bench.client() as client:
            before = world.state()
            answer = await world.ask(client, route, one, world.admins[THEIRS])
            said = await answer.text()
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
    (spec,) = (spec for spec in world.bench.app()[ROUTES] if (spec.method, spec.path) == route)
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

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import ServerDisconnectedError, web
from aiohttp.test_utils import TestClient, TestServer

from consumers.signin.routes import KNOWN_FOR, PENDING_FOR, ROUTES
from schemas.job_status.model import Status
from schemas.notification_signin.model import Signin
from streams.adapters.redis import connect
from streams.dev import ports
from streams.door import Accepted, ProblemError
from streams.gateway.access import ANYBODY, CALLER, Caller
from streams.gateway.door import GatewayDoor
from streams.gateway.middleware import Around
from streams.gateway.peers import Origins, Peers
from streams.gateway.problems import Problems
from streams.history import row
from streams.job import TransientError
from streams.ports import Position
from tests.consumer_context import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from streams.gateway.access import Handler
    from streams.history import JobRow

PATH = "/api/jobs/signin-notification"
STATUS = Status(
    job_id="job-1",
    type="notification.signin",
    queue="emails",
    tenant="default",
    status="pending",
    attempt=0,
    replays=0,
    time=1,
    topic="jobs.emails",
    partition=0,
    offset=0,
)


class Broker:
    """Takes jobs, unless one of ``faults`` is left; knows the jobs it took."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[str, str, Any]] = {}
        self.faults: list[BaseException] = []

    async def submit(
        self, name: str, payload: Any, *, tenant: str, entity: str | None = None, job_id: str | None = None
    ) -> Accepted:
        assert entity is None
        assert job_id is not None
        if self.faults:
            raise self.faults.pop(0)
        self.jobs[job_id] = (name, tenant, payload)
        return Accepted(id=job_id, location="elsewhere", position=Position("jobs.emails", 0, 0))

    async def find(self, job_id: str) -> JobRow | None:
        return row(STATUS.model_copy(update={"job_id": job_id})) if job_id in self.jobs else None


class NoMetrics:
    def inc(self, *_: Any, **__: Any) -> None: ...

    def observe(self, *_: Any, **__: Any) -> None: ...

    def watch(self, *_: Any, **__: Any) -> None: ...


def asked_by(caller: Caller, handler: Handler) -> Handler:
    async def asked(request: web.Request) -> web.StreamResponse:
        request[CALLER] = caller
        return await handler(request)

    return asked


@asynccontextmanager
async def served(
    broker: Broker, redis: Redis, caller: Caller = ANYBODY
) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    door = GatewayDoor(cast("Any", broker), cast("Any", broker), redis, OPTIONS)
    around = Around(Problems("http://gateway"), NoMetrics(), Peers(()), Origins(()), secure=False)
    app = web.Application(middlewares=[around.middleware])
    for route in ROUTES:
        app.router.add_route(route.method, route.path, asked_by(caller, route.build(door)))
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def client(broker: Broker, redis: Redis) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with served(broker, redis) as client:
        yield client


@pytest.fixture
def body(unique: Callable[[str], str]) -> dict[str, Any]:
    return {
        "userId": unique("user"),
        "email": "bat@example.com",
        "name": "Бат",
        "provider": "google",
        "ipAddress": "203.0.113.7",
        "userAgent": "Mozilla/5.0",
        "timestamp": "2026-11-24T10:05:00+08:00",
    }


async def test_a_sign_in_is_accepted_and_can_be_looked_at(client: Any, broker: Broker, body: dict[str, Any]) -> None:
    answer = await client.post(PATH, json=body)
    assert answer.status == 202
    accepted = await answer.json()
    assert answer.headers["Location"] == accepted["location"] == f"/api/jobs/{accepted['jobId']}"
    name, tenant, payload = broker.jobs[accepted["jobId"]]
    assert (name, tenant) == ("notification.signin", "default")
    assert type(payload) is Signin
    assert payload.user_id == body["userId"]
    assert payload.timestamp.isoformat() == "2026-11-24T02:05:00+00:00"
    job = await client.get(accepted["location"])
    assert job.status == 200
    assert (await job.json())["status"] == "pending"


async def test_snake_case_a_tenant_and_an_own_id_are_welcome(
    client: Any, broker: Broker, body: dict[str, Any], unique: Callable[[str], str]
) -> None:
    job_id = unique("job")
    snake = {
        "user_id": body["userId"],
        "ip_address": "203.0.113.7",
        "user_agent": "",
        "job_id": job_id,
        "tenant": "gobi",
    }
    plain = {name: body[name] for name in ("email", "name", "provider", "timestamp")}
    answer = await client.post(PATH, json=snake | plain)
    assert answer.status == 202
    assert (await answer.json())["jobId"] == job_id
    assert broker.jobs[job_id][1] == "gobi"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"email": "not an address"}, "/email"),
        ({"email": "a@b.mn\r\nBcc: all@example.com"}, "/email"),
        ({"timestamp": "yesterday"}, "/timestamp"),
        ({"userId": 7}, "/userId"),
        ({"surprise": 1}, "/surprise"),
        ({"jobId": "two words"}, "/jobId"),
        ({"tenant": "a/b"}, "/tenant"),
    ],
)
async def test_a_body_that_does_not_fit_is_a_400_that_points_at_the_place(
    client: Any, broker: Broker, body: dict[str, Any], change: dict[str, Any], pointer: str
) -> None:
    answer = await client.post(PATH, json=body | change)
    assert answer.status == 400
    assert answer.content_type == "application/problem+json"
    problem = await answer.json()
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert broker.jobs == {}


async def test_a_missing_field_and_broken_json_are_400_too(client: Any, body: dict[str, Any]) -> None:
    del body["email"]
    missing = await client.post(PATH, json=body)
    assert missing.status == 400
    assert (await missing.json())["errors"][0]["pointer"] == "/email"
    broken = await client.post(PATH, data=b"{", headers={"Content-Type": "application/json"})
    assert broken.status == 400


async def test_the_same_job_id_again_is_a_409_and_takes_no_place(
    client: Any, broker: Broker, body: dict[str, Any], unique: Callable[[str], str]
) -> None:
    body["jobId"] = unique("job")
    assert (await client.post(PATH, json=body)).status == 202
    assert [(await client.post(PATH, json=body)).status for _ in range(12)] == [409] * 12
    assert len(broker.jobs) == 1
    del body["jobId"]
    assert [(await client.post(PATH, json=body)).status for _ in range(10)] == [202] * 9 + [429]


async def test_the_eleventh_in_an_hour_is_a_429_that_says_when_to_come_back(
    client: Any, broker: Broker, body: dict[str, Any]
) -> None:
    answers = [await client.post(PATH, json=body) for _ in range(11)]
    assert [answer.status for answer in answers] == [202] * 10 + [429]
    assert 3500 < int(answers[10].headers["Retry-After"]) <= 3600
    assert len(broker.jobs) == 10
    assert (await client.post(PATH, json=body | {"userId": body["userId"] + "-2"})).status == 202


async def test_many_at_once_never_pass_the_limit(client: Any, broker: Broker, body: dict[str, Any]) -> None:
    answers = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(40)))
    assert sorted(answer.status for answer in answers) == [202] * 10 + [429] * 30
    assert len(broker.jobs) == 10


@pytest.mark.parametrize("fault", [ProblemError("unavailable", "no ack"), TransientError("registry away")])
async def test_what_the_broker_does_not_take_is_a_500_and_gives_its_place_back(
    client: Any, broker: Broker, body: dict[str, Any], unique: Callable[[str], str], fault: Exception
) -> None:
    body["jobId"] = unique("job")
    broker.faults = [fault] * 12
    for _ in range(12):
        answer = await client.post(PATH, json=body)
        problem = await answer.json()
        assert (answer.status, problem["job_id"]) == (500, body["jobId"])
        assert "again" in problem["detail"]
    assert (await client.post(PATH, json=body)).status == 202


async def test_a_job_whose_gateway_died_before_the_broker_had_it_is_no_duplicate_for_long(
    client: Any, broker: Broker, redis: Redis, body: dict[str, Any], unique: Callable[[str], str]
) -> None:
    body["jobId"] = unique("job")
    broker.faults = [asyncio.CancelledError()]
    with suppress(ServerDisconnectedError):
        await client.post(PATH, json=body)
    mark = f"keylane:known:signin:default/{body['jobId']}"
    assert 0 < await redis.ttl(mark) <= PENDING_FOR
    assert (await client.post(PATH, json=body)).status == 409
    await redis.delete(mark)  # as time will
    assert (await client.post(PATH, json=body)).status == 202
    assert await redis.ttl(mark) > KNOWN_FOR - 60


async def test_without_redis_nothing_is_accepted(broker: Broker, body: dict[str, Any]) -> None:
    away = connect(f"redis://127.0.0.1:{ports.any_free()}", timeout=0.2)
    async with served(broker, away) as client:
        answer = await client.post(PATH, json=body)
        assert answer.status == 500
        assert "limit" in (await answer.json())["detail"]
    assert broker.jobs == {}
    await away.aclose()


async def test_an_unknown_job_is_a_404(client: Any) -> None:
    answer = await client.get("/api/jobs/nobody-knows")
    assert answer.status == 404
    assert answer.content_type == "application/problem+json"


async def test_tenants_are_told_apart_by_who_asks_and_an_id_is_each_tenants_own(
    broker: Broker, redis: Redis, body: dict[str, Any], unique: Callable[[str], str]
) -> None:
    job = {**body, "jobId": unique("job")}
    for tenant in ("steppe", "forest"):
        caller = Caller("key:1", tenant, frozenset({"jobs:write", "jobs:read"}))
        async with served(broker, redis, caller) as client:
            assert (await client.post(PATH, json=job)).status == 202
            assert broker.jobs[job["jobId"]][1] == tenant
            assert (await client.post(PATH, json=job)).status == 409
            assert (await client.post(PATH, json={**job, "tenant": "desert"})).status == 403
            assert (await client.get(f"/api/jobs/{job['jobId']}")).status == 404, "it is the tenant default's"

"""A gateway whose broker, Redis or database is there but slow: answers stay bounded, and it recovers by itself."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from pydantic import SecretStr
from yarl import URL

from streams import signing
from streams.adapters.vault import new_master
from streams.app.gateway import gateway
from streams.dev import ports
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import Proxy
from tests.eventually import eventually
from tests.gateway_doubles import JOB
from tests.integration.test_gateway import apply_topics
from tests.integration.test_intake import all_stored
from tests.key_maker import stored_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from streams.settings import Settings

BOUND = ClientTimeout(total=8)  # seconds: what takes longer fails the test
SLOW = 10.0  # seconds an answer takes: above every patience there is, and above the bound
MANY = 100


@asynccontextmanager
async def served(settings: Settings, **more: Any) -> AsyncIterator[ClientSession]:
    own = settings.model_copy(update={"gateway_port": ports.any_free(), **more})
    async with (
        gateway(own) as url,
        ClientSession(url, timeout=BOUND, connector=TCPConnector(limit=0)) as client,
    ):
        yield client


@asynccontextmanager
async def behind(target: str | None) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the server of a URL, and the URL that leads through it."""
    url, port = URL(str(target)), ports.any_free()
    assert url.port is not None
    async with Proxy(port, url.port) as proxy:
        yield proxy, str(url.with_port(port))


async def ask(client: ClientSession, method: str, path: str, **more: Any) -> tuple[int, Any]:
    """Status and body; who is told to come again is told when."""
    async with client.request(method, path, **more) as response:
        assert response.status not in {429, 503} or int(response.headers["Retry-After"]) >= 1
        return response.status, await response.json(content_type=None)


async def post(client: ClientSession, job_id: str, **more: Any) -> int:
    status, _ = await ask(client, "POST", "/api/v1/jobs", json=JOB | {"id": job_id}, **more)
    return status


async def metric(client: ClientSession, name: str) -> float:
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


async def test_a_slow_broker_is_a_503_in_time_for_all_and_no_202_is_lost(
    settings: Settings, tmp_path: Path, unique: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    run, cluster, told = unique("slow"), Cluster(tmp_path, 1), dict[str, int]()
    await cluster.start()
    direct = settings.model_copy(update={"kafka_bootstrap_servers": cluster.direct})
    await apply_topics(direct)

    async def tried(client: ClientSession, name: str) -> None:
        told[name] = await post(client, name)

    async def many(client: ClientSession, phase: str, count: int = MANY) -> list[int]:
        names = [f"{run}-{phase}-{number}" for number in range(count)]
        await asyncio.gather(*(tried(client, name) for name in names))
        return [told[name] for name in names]

    (own,) = cluster.ports
    async with (
        Proxy(own.advertised, own.proxied) as proxy,
        served(settings, kafka_bootstrap_servers=cluster.proxied, max_unacknowledged=MANY) as client,  # of 2 a job
    ):
        await tried(client, run)
        proxy.delay = 1.0
        late = await many(client, "late")
        proxy.delay = SLOW
        slow = await many(client, "slow")
        assert (await ask(client, "GET", "/health/live"))[0] == 200

        async def nothing_waits() -> bool:
            return await metric(client, "keylane_unacknowledged") == 0

        await eventually(nothing_waits)
        proxy.delay = 0.0

        async def well() -> bool:
            return await post(client, unique("again")) == 202

        await eventually(well, within=60)
        assert set(await many(client, "after", MANY // 2)) == {202}
    stored = set((await all_stored(direct, "jobs.emails")).values())
    await cluster.stop()

    assert "_pop_batch" not in caplog.text, "what was given up is given up once"
    assert set(late) == {202, 503}, "late is not lost, and what would wait beyond the bound is refused at once"
    assert set(slow) == {503}
    assert {name for name, status in told.items() if status == 202} <= stored


async def test_a_slow_redis_costs_no_job_and_what_must_be_counted_is_refused_in_time(
    settings: Settings, unique: Callable[[str], str]
) -> None:
    await apply_topics(settings)
    route, run = "POST /api/v1/stream-tickets", unique("run")
    limits = [
        {"name": "local", "per": "ip", "rate": "1000/s", "routes": ["POST /api/v1/jobs"]},
        {"name": "closed", "per": "ip", "rate": "1000/s", "routes": ["GET /api/v1/jobs"], "away": "closed"},
        {"name": "open", "per": "ip", "rate": "1/h", "routes": ["GET /metrics/system"], "away": "open"},
    ]
    async with behind(settings.redis_url) as (proxy, url), served(settings, redis_url=url, limits=limits) as client:

        async def all_routes(phase: str) -> list[int]:
            asked = [
                post(client, f"{run}-{phase}", headers={"Idempotency-Key": f"{run}-{phase}"}),
                *(ask(client, *each.split()) for each in ("GET /api/v1/jobs", "GET /metrics/system", route)),
            ]
            found: list[Any] = await asyncio.gather(*asked)
            return [found[0], *(status for status, _ in found[1:])]

        assert await all_routes("before") == [202, 200, 200, 201]
        assert (await ask(client, "GET", "/metrics/system"))[0] == 429, "the limit that is open is one"
        proxy.delay = SLOW
        assert await all_routes("slow") == [202, 503, 200, 503]
        posts = await asyncio.gather(
            *(post(client, f"{run}-{n}", headers={"Idempotency-Key": f"{run}-{n}"}) for n in range(MANY))
        )
        assert set(posts) == {202}
        assert (await ask(client, "GET", "/api/v1/idempotency/stats"))[0] == 503
        assert (await ask(client, "GET", "/health"))[1]["status"] == "degraded"
        proxy.delay = 0.0

        async def well() -> bool:
            return (await all_routes("after"))[1:] == [200, 429, 201]

        await eventually(well, within=30)


async def test_with_a_slow_redis_no_signature_is_accepted_and_its_sender_is_told_in_time(
    settings: Settings, unique: Callable[[str], str]
) -> None:
    await apply_topics(settings)
    own = settings.model_copy(update={"secret_keys": SecretStr(new_master("tests")), "gateway_auth": "hmac"})
    made = await stored_key(own, "jobs:write")
    body = json.dumps(JOB).encode()

    async def signed(client: ClientSession) -> int:
        parts = {"timestamp": int(time.time()), "nonce": secrets.token_urlsafe(16)}
        headers = signing.headers(made.key.prefix, made.signing_secret, "POST", "/api/v1/jobs", body, **parts)
        more = {"data": body, "headers": headers | {"Content-Type": "application/json"}}
        return (await ask(client, "POST", "/api/v1/jobs", **more))[0]

    async with behind(settings.redis_url) as (proxy, url), served(own, redis_url=url) as client:

        async def well() -> bool:
            return await signed(client) == 202

        await eventually(well, within=30)
        proxy.delay = SLOW
        assert set(await asyncio.gather(*(signed(client) for _ in range(MANY)))) == {503}
        proxy.delay = 0.0
        await eventually(well, within=30)


@pytest.mark.timeout(180)
async def test_a_slow_database_costs_no_job_and_looks_are_refused_in_time(
    settings: Settings, unique: Callable[[str], str]
) -> None:
    await apply_topics(settings)
    assert settings.database_url
    own = settings.model_copy(update={"secret_keys": SecretStr(new_master("tests"))})
    run, routes = unique("run"), json.dumps({"/metrics/system": "key"})
    key = {"X-API-Key": (await stored_key(own, "admin", tenant=None)).text}
    looks = ("/api/v1/jobs", f"/api/v1/jobs/{run}", "/api/v1/keys", "/metrics/queue-stats")
    async with (
        behind(settings.database_url.get_secret_value()) as (proxy, url),
        served(own, database_url=SecretStr(url), gateway_auth_routes=routes) as client,
    ):

        async def looked() -> list[int]:
            found = await asyncio.gather(*(ask(client, "GET", path) for path in looks * (MANY // len(looks))))
            return [status for status, _ in found]

        async def known() -> int:
            return (await ask(client, "GET", "/metrics/system", headers=key))[0]

        assert await post(client, run) == 202
        assert await known() == 200
        proxy.delay = SLOW
        slow = await looked()
        posts = await asyncio.gather(*(post(client, f"{run}-{n}") for n in range(MANY)))

        async def forgotten() -> bool:
            return await known() == 503

        await eventually(forgotten, within=20)
        assert (await ask(client, "GET", "/health"))[1]["status"] == "degraded"
        proxy.delay = 0.0

        async def well() -> bool:
            return 503 not in {*(await looked())[:4:2], await known()}

        await eventually(well, within=60)

    assert set(slow) == {200, 503}, "figures go without those of the database"
    assert slow.count(503) == MANY * 3 // 4
    assert set(posts) == {202}

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient
from structlog.testing import capture_logs

from streams.gateway.app import HEALTH
from streams.gateway.health import HealthCheck
from streams.gateway.serving import Runner
from tests.eventually import eventually
from tests.gateway_doubles import JOB, Bench, GatewayServer


class Dependency:
    """Up, unless told otherwise."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hangs = False
        self.asked = 0

    async def check(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error:
            raise self.error


def bench_on(needed: Dependency, other: Dependency) -> Bench:
    checks = (HealthCheck("kafka", needed.check), HealthCheck("redis", other.check, needed=False))
    return Bench(changes={"checks": checks})


async def answer(client: Any, path: str) -> tuple[int, Any]:
    response = await client.get(path)
    return response.status, await response.json()


async def test_all_up() -> None:
    async with bench_on(Dependency(), Dependency()).client() as client:
        status, health = await answer(client, "/health")
        ready, _ = await answer(client, "/health/ready")

    assert (status, ready, health["status"], health["version"]) == (200, 200, "up", "1.2.3")
    assert health["dependencies"]["kafka"] == {"status": "up", "needed": True, "detail": None}
    assert health["memory"]["peak_bytes"] >= health["memory"]["resident_bytes"] > 0


async def test_without_a_dependency_that_is_not_needed_the_gateway_is_degraded_and_ready() -> None:
    other = Dependency()
    other.error = ConnectionError("redis://user:secret@host")
    async with bench_on(Dependency(), other).client() as client:
        status, health = await answer(client, "/health")
        ready, _ = await answer(client, "/health/ready")

    assert (status, ready, health["status"]) == (200, 200, "degraded")
    assert health["dependencies"]["redis"] == {"status": "down", "needed": False, "detail": "ConnectionError"}


async def test_without_a_needed_dependency_it_is_alive_and_not_ready() -> None:
    needed = Dependency()
    needed.error = ConnectionError("away")
    async with bench_on(needed, Dependency()).client() as client:
        found = {path: (await answer(client, path))[0] for path in ("/health", "/health/ready", "/health/live")}

    assert found == {"/health": 503, "/health/ready": 503, "/health/live": 200}


async def test_a_dependency_that_hangs_does_not_hang_the_probe() -> None:
    needed = Dependency()
    needed.hangs = True
    async with bench_on(needed, Dependency()).client() as client:
        started = time.perf_counter()
        status, health = await answer(client, "/health")

    assert time.perf_counter() - started < 3
    assert (status, health["dependencies"]["kafka"]["detail"]) == (503, "TimeoutError")


async def test_many_probes_ask_a_dependency_once() -> None:
    needed = Dependency()
    async with bench_on(needed, Dependency()).client() as client:
        await asyncio.gather(*(answer(client, "/health/ready") for _ in range(20)))

    assert needed.asked == 1


async def test_start_and_stop_are_told_to_the_orchestrator() -> None:
    app = Bench().app()
    async with TestClient(GatewayServer(app)) as client:
        paths = [prefix + path for prefix in ("", "/api/v1") for path in ("/health/startup", "/health/ready")]
        assert {(await answer(client, path))[0] for path in paths} == {503}
        app[HEALTH].started = True
        assert {(await answer(client, path))[0] for path in paths} == {200}
        app[HEALTH].stopping = True
        assert (await answer(client, "/health/startup"))[0] == 200
        assert (await answer(client, "/health/ready"))[0] == 503
        assert (await answer(client, "/health/live"))[0] == 200


async def test_a_request_under_way_is_answered_before_the_end() -> None:
    bench = Bench(changes={"patience": 10.0})
    bench.log.hangs = {"jobs.emails"}
    runner = Runner(bench.app(), shutdown_timeout=10)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        asked = asyncio.create_task(client.post("/api/v1/jobs", json=JOB))

        async def under_way() -> bool:
            return bool(bench.log.of("job-status"))

        await eventually(under_way)
        ending = asyncio.create_task(runner.cleanup())
        await asyncio.wait([ending], timeout=0.05)
        assert not ending.done()
        bench.log.go.set()
        assert (await asked).status == 202
        await ending


async def test_metrics_count_requests_by_route_and_hold_nothing_clients_choose() -> None:
    bench = Bench()
    async with bench.client() as client:
        await client.get("/api/v1/jobs/secret-id")
        await client.get("/some/odd/path")
        await client.post("/api/v1/jobs", json=JOB)
        await client.post("/api/v1/jobs", json={})
        response = await client.get("/metrics")
        text = await response.text()
        assert (await client.get("/api/v1/metrics")).status == 200

    assert response.headers["Content-Type"].startswith("text/plain")
    assert re.search(r'http_requests_total{method="GET",route="/api/v1/jobs/{id}",status="404"} 1.0', text)
    assert re.search(r'http_requests_total{method="GET",route="unmatched",status="404"} 1.0', text)
    assert re.search(r'keylane_accepted_total{kind="job",type="notification.signin"} 1.0', text)
    assert re.search(r'keylane_refused_total{problem="invalid-request"} 1.0', text)
    assert "secret-id" not in text
    assert "odd" not in text


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/docs", "/metrics"])
async def test_every_answer_has_the_security_headers(path: str) -> None:
    async with Bench().client() as client:
        headers = (await client.get(path)).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert headers["Strict-Transport-Security"].startswith("max-age=")
    assert headers["Server"] == "keylane"


async def test_a_sound_request_id_is_kept_and_any_other_replaced() -> None:
    async with Bench().client() as client:
        kept = await client.get("/health/live", headers={"X-Request-Id": "abc-1.2_3"})
        replaced = await client.get("/health/live", headers={"X-Request-Id": "a b" + "x" * 100})

    assert kept.headers["X-Request-Id"] == "abc-1.2_3"
    assert uuid.UUID(replaced.headers["X-Request-Id"]).version == 7


async def test_every_request_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streams.gateway.access")
    with capture_logs() as lines:
        async with Bench().client() as client:
            await client.get("/api/v1/jobs/x%0ay")

    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v1/jobs/x%0Ay", 404)
    assert line["milliseconds"] > 0

"""Traces of real processes at a real collector: over HTTP, Kafka, retries, the dead letters and a replay."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientError, ClientSession
from opentelemetry.trace import SpanKind

from streams.dev import ports
from streams.dev.stack import Stack
from tests.collector import SeenSpan, collector
from tests.eventually import eventually
from tests.gateway_doubles import JOB, PAYLOAD
from tests.smtp_server import smtp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from streams.settings import Settings

KEYLANE = (sys.executable, "-c", "from streams.cli import main; main()")
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ATTEMPTS = 5


class System:
    """keylane's commands on a broker of their own, so that no other test's jobs are in the traces."""

    def __init__(self, settings: Settings, broker: str, folder: Path) -> None:
        assert settings.database_url is not None
        self._port = ports.any_free()
        self.url = f"http://127.0.0.1:{self._port}"
        self.environment = os.environ | {
            "KEYLANE_DATA_DIR": str(folder),
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": broker,
            "KEYLANE_REDIS_URL": str(settings.redis_url),
            "KEYLANE_DATABASE_URL": settings.database_url.get_secret_value(),
            "KEYLANE_GATEWAY_PORT": str(self._port),
            "KEYLANE_TIER_SCALE": "0.01",
        }

    async def run(self, *words: str) -> str:
        process = await self.started(*words, stdout=asyncio.subprocess.PIPE)
        found, _ = await process.communicate()
        assert process.returncode == 0
        return found.decode()

    async def started(self, *words: str, **options: Any) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(*KEYLANE, *words, env=self.environment, **options)

    @asynccontextmanager
    async def running(self, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await self.started(*words)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            assert await asyncio.wait_for(process.wait(), 30) == 0

    async def serves(self, client: ClientSession) -> None:
        async def answers() -> bool:
            try:
                async with client.get("/health/ready") as response:
                    return response.status == 200
            except (ClientError, OSError):
                return False

        await eventually(answers, within=60)


@pytest.fixture
async def system(settings: Settings, tmp_path: Path) -> AsyncIterator[System]:
    stack = Stack(tmp_path, parts=("kafka",), asked={"kafka": ports.any_free()})
    await stack.astart()
    found = System(settings, str(stack.addresses.kafka_bootstrap_servers), tmp_path)
    await found.run("topics", "apply")
    yield found
    await stack.astop()


async def test_one_trace_tells_the_life_of_a_job_over_retries_and_a_replay(system: System, unique: Any) -> None:
    job, user = unique("job"), unique("user")
    body = JOB | {"id": job, "payload": PAYLOAD | {"user_id": user}}
    async with collector() as seen, smtp_server() as inbox, ClientSession(system.url) as client:
        inbox.refuse("MAIL", *["451 not now"] * ATTEMPTS)
        system.environment |= {
            "KEYLANE_OTLP_ENDPOINT": seen.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-token=abc",
            "KEYLANE_MAIL_TRANSPORT": "smtp",
            "KEYLANE_SMTP_PORT": str(inbox.port),
        }

        async def is_now(status: str) -> bool:
            async with client.get(f"/api/v1/jobs/{job}") as response:
                return response.status == 200 and (await response.json())["status"] == status

        async with system.running("gateway"), system.running("worker", "-g", "emails", "-g", "history"):
            await system.serves(client)
            caller = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            async with client.post("/api/v1/jobs", json=body, headers=caller) as response:
                assert response.status == 202, await response.text()
            await eventually(lambda: is_now("dead"), within=60)
            done = json.loads(await system.run("dlt", "replay", "--key", user, "--yes", "--output", "json"))
            assert done["done"] == 1
            await eventually(lambda: is_now("completed"), within=60)

    told = seen.of(TRACE)  # all of it, since both processes have sent what was left at their end
    (request,) = named(told, "POST /api/v1/jobs")
    (sent,) = named(told, "send jobs.emails")
    runs = [span for span in told if span.name.startswith("process ")]
    mails = named(told, "send e-mail")
    assert (request.service, request.parent, sent.service, sent.parent) == (
        "keylane-gateway",
        CALLER,
        "keylane-gateway",
        request.id,
    )
    assert [span.name.removeprefix("process jobs.emails") for span in runs] == [
        "",
        *(f".emails.retry.{tier}" for tier in range(1, ATTEMPTS)),
        ".emails.retry.0",
    ]
    assert {span.parent for span in runs} == {sent.id}
    assert all(span.links == [sent.id] for span in runs)
    assert [span.attributes["keylane.outcome"] for span in runs] == [*["failed"] * ATTEMPTS, "done"]
    assert [span.parent for span in mails] == [span.id for span in runs]
    assert {(span.service, span.kind) for span in runs} == {("keylane-worker", SpanKind.CONSUMER.value + 1)}
    assert len(told) == 2 + len(runs) + len(mails), "and nothing else: no book-keeping"
    assert all(headers["x-collector-token"] == "abc" for headers in seen.headers)


def named(spans: list[SeenSpan], name: str) -> list[SeenSpan]:
    return [span for span in spans if span.name == name]


@pytest.mark.parametrize("away", ["refuses", "hangs"])
async def test_without_its_collector_the_gateway_goes_on_and_ends_in_time(system: System, away: str) -> None:
    async with collector() as seen, ClientSession(system.url) as client:
        seen.hangs = True
        gone = f"http://127.0.0.1:{ports.any_free()}"
        system.environment |= {
            "KEYLANE_OTLP_ENDPOINT": gone if away == "refuses" else seen.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        async with system.running("gateway") as process:
            await system.serves(client)
            for number in range(20):
                async with client.post("/api/v1/jobs", json=JOB) as response:
                    assert response.status == 202, await response.text()
                if number == 0 and away == "hangs":
                    await asyncio.wait_for(seen.asked.wait(), 20)
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0
    assert seen.spans == []

"""``keylane gateway --processes``: one port, several real processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector

from schemas.catalogue import contracts
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.catalogue import load_catalogue
from streams.core.headers import text
from streams.dev import ports
from streams.topics import wanted
from tests.eventually import eventually
from tests.gateway_doubles import JOB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from streams.settings import Settings

KEYLANE = (sys.executable, "-c", "from streams.cli import main; main()")
CLIENTS = 8


class Gateway:
    """The command, its log, and its children."""

    def __init__(self, settings: Settings, log: Path) -> None:
        assert settings.database_url is not None
        self.port = ports.any_free()
        self.metrics = ports.any_free()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._environment = os.environ | {
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
            "KEYLANE_REDIS_URL": str(settings.redis_url),
            "KEYLANE_DATABASE_URL": settings.database_url.get_secret_value(),
            "KEYLANE_GATEWAY_METRICS_PORT": str(self.metrics),
        }

    async def start(self, count: int) -> asyncio.subprocess.Process:
        with self._log.open("wb") as log:
            words = ("gateway", "--processes", str(count), "--port", str(self.port))
            return await asyncio.create_subprocess_exec(*KEYLANE, *words, env=self._environment, stderr=log)

    @asynccontextmanager
    async def running(self, count: int) -> AsyncIterator[asyncio.subprocess.Process]:
        parent = await self.start(count)
        try:
            await self.told("process serves", count)
            yield parent
        finally:
            if parent.returncode is None:
                parent.terminate()
            await parent.wait()

    def lines(self, event: str) -> list[dict[str, Any]]:
        whole, _, _ = self._log.read_text().rpartition("\n")  # the last line may be half written
        found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    async def told(self, event: str, times: int = 1) -> None:
        async def often_enough() -> bool:
            return len(self.lines(event)) >= times

        await eventually(often_enough, within=60)

    def pids(self) -> dict[int, int]:
        return {line["process"]: line["pid"] for line in self.lines("process serves")}

    def text(self) -> str:
        return self._log.read_text()


@pytest.fixture
async def gateway(settings: Settings, tmp_path: Path) -> Gateway:
    admin = TopicAdmin(client_options(settings))
    await admin.apply(await admin.plan(wanted(load_catalogue(settings), contracts(), 1)))
    return Gateway(settings, tmp_path / "gateway.log")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def submit(client: ClientSession, job_id: str) -> None:
    """Send a job until it is accepted, as a client that retries does."""
    while True:
        try:
            async with client.post("/api/v1/jobs", json=JOB | {"id": job_id}) as response:
                if response.status == 202:
                    return
                assert response.status == 503, await response.text()
        except (ClientError, OSError):
            await asyncio.sleep(0.05)


async def stored(settings: Settings) -> set[str]:
    reader = KafkaLogReader(client_options(settings))
    ends = await reader.ends(["jobs.emails"])
    return {
        str(text(record.headers, "ce_id"))
        async for records in reader.read(await reader.starts(["jobs.emails"]), ends)
        for record in records
    }


async def test_one_that_is_killed_comes_back_and_no_job_of_a_client_that_retries_is_lost(
    gateway: Gateway, settings: Settings, unique: Any
) -> None:
    prefix, sent, enough = unique("job"), [], asyncio.Event()
    async with gateway.running(3) as parent:
        before = gateway.pids()
        connector = TCPConnector(force_close=True, limit=0)  # a connection each, so that all processes get some

        async def keep_sending(client: ClientSession, number: int) -> None:
            while not enough.is_set():
                job_id = f"{prefix}-{number}-{len(sent)}"
                await submit(client, job_id)
                sent.append(job_id)

        async with ClientSession(gateway.url, connector=connector) as client, asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(keep_sending(client, number))
            await gateway.told("request", 60)
            os.kill(before[1], signal.SIGKILL)
            await gateway.told("process serves", 4)
            seen = len(gateway.lines("request"))
            await gateway.told("request", seen + 60)
            enough.set()
        after = gateway.pids()
        parent.terminate()
        assert await asyncio.wait_for(parent.wait(), 30) == 0

    assert {line["process"] for line in gateway.lines("request")} == {0, 1, 2}, "each request says who answered it"
    assert [line["process"] for line in gateway.lines("process died; it is started again")] == [1]
    assert after[1] != before[1]
    assert (after[0], after[2]) == (before[0], before[2])
    assert not any(map(alive, after.values()))
    assert sum(line.get("process") is not None for line in gateway.lines("gateway ended")) == 3
    assert set(sent) <= await stored(settings)


async def test_each_process_shows_its_own_metrics_and_health(gateway: Gateway) -> None:
    async with gateway.running(2), ClientSession() as client:
        for _ in range(20):
            async with ClientSession() as fresh, fresh.get(f"{gateway.url}/api/v1/metrics") as response:
                assert response.status == 200
        counts = []
        for number in range(2):
            base = f"http://127.0.0.1:{gateway.metrics + number}"
            async with client.get(f"{base}/metrics") as response:
                shown = await response.text()
            found = re.search(r'requests_total{method="GET",route="/api/v1/metrics",status="200"} (\d+)', shown)
            counts.append(0 if found is None else int(found[1]))
            async with client.get(f"{base}/health/ready") as response:
                assert response.status == 200
    assert sum(counts) == 20


async def test_the_children_end_when_their_parent_is_killed(gateway: Gateway) -> None:
    async with gateway.running(2) as parent:
        pids = gateway.pids()
        parent.kill()
        await parent.wait()

        async def gone() -> bool:
            return not any(map(alive, pids.values()))

        await eventually(gone, within=30)
    assert sum(line.get("process") is not None for line in gateway.lines("gateway ended")) == 2


async def test_a_port_that_is_taken_is_told_of_before_anything_starts(
    gateway: Gateway, settings: Settings, tmp_path: Path
) -> None:
    late = Gateway(settings, tmp_path / "late.log")
    late.port = gateway.port
    async with gateway.running(2):
        parent = await late.start(2)
        assert await asyncio.wait_for(parent.wait(), 30) == 1
    assert f"KEYLANE_GATEWAY_PORT: port {gateway.port} of 127.0.0.1 cannot be used" in late.text()
    assert "gateway starts its processes" not in late.text()


async def test_where_none_can_start_the_command_ends_and_says_so(gateway: Gateway) -> None:
    gateway._environment["KEYLANE_LIMITS"] = '[{"name": "x"}]'
    parent = await gateway.start(2)
    assert await asyncio.wait_for(parent.wait(), 60) == 1
    assert "KEYLANE_LIMITS: per" in gateway.text()
    assert "cannot start (exit code 1): see what it said in the log" in gateway.text()

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from pydantic import SecretStr

from schemas.catalogue import contracts
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.app.gateway import gateway
from streams.app.worker import worker
from streams.catalogue import load_catalogue
from streams.core import headers as h
from streams.dev import ports
from streams.dev.stack import Stack
from streams.ports import Message, TopicPartition
from streams.settings import Settings, SettingsError
from streams.topics import wanted
from tests.eventually import eventually
from tests.gateway_doubles import EVENT, JOB, PAYLOAD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def apply_topics(settings: Settings) -> None:
    admin = TopicAdmin(client_options(settings))
    await admin.apply(await admin.plan(wanted(load_catalogue(settings), contracts(), 1)))


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await apply_topics(settings)
    return on_a_free_port(settings)


def on_a_free_port(settings: Settings) -> Settings:
    return settings.model_copy(update={"gateway_port": ports.any_free()})


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[ClientSession]:
    async with gateway(settings) as url, ClientSession(url) as client:
        yield client


async def post(client: ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with client.post(path, json=body) as response:
        found: dict[str, Any] = await response.json()
        assert response.status == 202, found
        return found


async def status(client: ClientSession, path: str) -> int:
    async with client.get(path) as response:
        return response.status


async def test_a_look_right_after_the_202_finds_the_job_at_any_gateway(ready: Settings) -> None:
    async with worker(ready, ["history"]), served(ready) as one, served(on_a_free_port(ready)) as other:

        async def round_trip(client: ClientSession) -> int:
            accepted = await post(one, "/api/v1/jobs", JOB)
            return await status(client, accepted["location"])

        seen = await asyncio.gather(*(round_trip(client) for client in (one, other) * 50))
        assert set(seen) == {200}

        started = time.perf_counter()
        assert await status(other, "/api/v1/jobs/nobody") == 404
        assert time.perf_counter() - started < 2


async def test_an_accepted_job_is_never_a_404_even_without_a_projection(ready: Settings, unique: Any) -> None:
    job = unique("job")
    async with served(ready) as client:
        accepted = await post(client, "/api/v1/jobs", JOB | {"id": job})
        assert await status(client, accepted["location"]) == 503
        async with worker(ready, ["history"]):
            assert await status(client, accepted["location"]) in {200, 503}

            async def found() -> bool:
                return await status(client, accepted["location"]) == 200

            await eventually(found)
            async with client.get(accepted["location"]) as response:
                shown = await response.json()
    assert (shown["id"], shown["status"], shown["payload"]["email"]) == (job, "pending", PAYLOAD["email"])


async def test_a_jobs_whole_life_is_visible(ready: Settings, unique: Any) -> None:
    body = {**PAYLOAD, "user_id": unique("user"), "jobId": unique("job")}
    async with served(ready) as client:
        accepted = await post(client, "/api/jobs/signin-notification", body)
        assert await status(client, accepted["location"]) in {200, 503}
        async with client.post("/api/jobs/signin-notification", json=body) as response:
            assert response.status == 409
        async with worker(ready):

            async def completed() -> bool:
                async with client.get(accepted["location"]) as response:
                    return response.status == 200 and (await response.json())["status"] == "completed"

            await eventually(completed)
            async with client.get(f"/api/v1/jobs/{body['jobId']}") as response:
                shown = await response.json()

    assert (shown["attempt"], shown["queue"], shown["error"]) == (1, "emails", None)
    assert shown["partition"] is not None
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]


async def test_records_are_what_any_kafka_client_expects(ready: Settings, unique: Any) -> None:
    entity = unique("r")
    async with served(ready) as client:
        accepted = await post(client, "/api/v1/events", EVENT | {"key": entity})
        place = TopicPartition(accepted["topic"], accepted["partition"])
        registry = RegistryClient(f"http://127.0.0.1:{ready.gateway_port}/registry")
        codec = Codec(registry, contracts())
        reader = KafkaLogReader(client_options(ready))
        offset = accepted["offset"]
        (record,) = [one async for batch in reader.read({place: offset}, {place: offset + 1}) for one in batch]
        assert record.value is not None
        await codec.load(record.value)
        payload = codec.decode_now(record.value)
        await registry.close()

    assert record.key == f"steppe/{entity}".encode()
    assert h.text(record.headers, "ce_id") == accepted["id"]
    assert payload is not None
    assert payload.contract.name == "reservation.held"


async def test_dead_letters_are_listed_by_tenant(ready: Settings, unique: Any) -> None:
    tenant = unique("tenant")
    publisher = KafkaPublisher(client_options(ready))
    for number in range(3):
        headers = [("ce_type", b"notification.signin"), (h.EXCEPTION, b"x.Boom"), (h.MESSAGE, b"no")]
        await publisher.publish(Message("jobs.emails.emails.dlt", f"{tenant}/u{number}".encode(), b"bytes", headers))
    await publisher.stop()

    async with served(ready) as client:
        async with client.get("/api/admin/dlq", params={"tenant": tenant, "limit": "2"}) as response:
            cut = await response.json()
        async with client.get("/api/admin/dlq", params={"tenant": tenant, "group": "emails"}) as response:
            whole = await response.json()
        async with client.get("/api/admin/dlq", params={"tenant": tenant, "group": "other"}) as response:
            none = await response.json()

    assert (len(cut["entries"]), cut["more"]) == (2, True)
    assert {each["key"] for each in whole["entries"]} == {f"{tenant}/u{number}" for number in range(3)}
    assert {each["exception"] for each in whole["entries"]} == {"x.Boom"}
    assert (none["entries"], none["more"]) == ([], False)


async def test_health_names_every_dependency(ready: Settings) -> None:
    async with served(ready) as client:
        async with client.get("/health") as response:
            health = await response.json()
        probes = [await status(client, f"/api/v1/health/{probe}") for probe in ("live", "ready", "startup")]

    assert health["status"] == "up"
    assert set(health["dependencies"]) == {"kafka", "postgres", "redis"}
    assert health["memory"]["resident_bytes"] > 10_000_000
    assert probes == [200, 200, 200]


async def test_a_broker_that_is_away_is_a_503_within_two_seconds_and_forgiven_after(
    settings: Settings, tmp_path: Path
) -> None:
    port = ports.any_free()
    stack = Stack(tmp_path, parts=("kafka",), asked={"kafka": port})
    await stack.astart()
    own = on_a_free_port(settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{port}"}))
    await apply_topics(own)
    async with served(own) as client:
        await post(client, "/api/v1/jobs", JOB)
        await stack.astop()

        took = []
        for _ in range(3):
            started = time.perf_counter()
            async with client.post("/api/v1/jobs", json=JOB) as response:
                assert response.status == 503
                assert response.headers["Retry-After"] == "1"
            took.append(time.perf_counter() - started)
        assert min(took) < 2  # others may have been busy with something else on this machine
        assert await status(client, "/health/live") == 200
        assert await status(client, "/health/ready") == 503

        await stack.astart()

        async def accepted() -> bool:
            async with client.post("/api/v1/jobs", json=JOB) as response:
                return response.status == 202

        await eventually(accepted, within=30)

        async def healthy() -> bool:
            return await status(client, "/health/ready") == 200

        await eventually(healthy, within=30)
    await stack.astop()


async def test_a_database_that_is_away_keeps_nothing_out_and_is_forgiven_after(ready: Settings, tmp_path: Path) -> None:
    stack = Stack(tmp_path, parts=("postgres",), asked={"postgres": ports.any_free()})
    await stack.astart()
    own = ready.model_copy(update={"database_url": SecretStr(str(stack.addresses.database_url))})
    async with served(own) as client:

        async def listed() -> bool:
            return await status(client, "/api/v1/jobs") == 200

        assert await listed()
        await stack.astop()
        await post(client, "/api/v1/jobs", JOB)
        async with client.get("/api/v1/jobs") as response:
            assert (response.status, "Retry-After" in response.headers) == (503, True)
        assert await status(client, "/health/ready") == 200, "what comes in is still taken"
        async with client.get("/health") as response:
            assert (await response.json())["dependencies"]["postgres"]["status"] == "down"

        await stack.astart()
        await eventually(listed, within=30)
    await stack.astop()


async def test_the_command_serves_and_ends_in_order(ready: Settings) -> None:
    assert ready.database_url is not None
    environment = os.environ | {
        "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(ready.kafka_bootstrap_servers),
        "KEYLANE_REDIS_URL": str(ready.redis_url),
        "KEYLANE_DATABASE_URL": ready.database_url.get_secret_value(),
    }
    command = [
        sys.executable,
        "-c",
        "from streams.cli import main; main()",
        "gateway",
        "--port",
        str(ready.gateway_port),
    ]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    while b"gateway started" not in await process.stderr.readline():
        assert process.returncode is None

    async with ClientSession(f"http://127.0.0.1:{ready.gateway_port}") as client:
        await post(client, "/api/v1/jobs", JOB)
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 15)

    assert process.returncode == 0
    assert b"gateway ended" in errors


async def test_an_address_others_can_reach_is_refused(ready: Settings) -> None:
    with pytest.raises(SettingsError, match=r"KEYLANE_GATEWAY_HOST: 0\.0\.0\.0 can be reached from other machines"):
        async with gateway(ready.model_copy(update={"gateway_host": "0.0.0.0"})):  # noqa: S104 - that is the point
            pass


async def test_a_taken_port_is_named(ready: Settings) -> None:
    async with served(ready):
        with pytest.raises(SettingsError, match=rf"port {ready.gateway_port} of 127\.0\.0\.1 cannot be used"):
            async with gateway(ready):
                pass

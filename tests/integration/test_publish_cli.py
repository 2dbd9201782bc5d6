from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from schemas.catalogue import contracts
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.catalogue import load_catalogue
from streams.cli.publish import app
from streams.event import from_headers, tenant_of
from streams.gateway.registry import registry_app
from streams.gateway.registry_log import RegistryLog
from streams.gateway.registry_store import RegistryStore
from streams.topics import wanted
from tests.unit.registry_memory import anyone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streams.ports import Record
    from streams.settings import Settings

ROOT = Path(__file__).parents[2]
TOPICS = ("events.reservation", "jobs.emails")


class Office:
    """The publish command on the real broker, with a registry and a tenant of its own."""

    def __init__(self, settings: Settings, tenant: str, registry: str, folder: Path) -> None:
        self.tenant = tenant
        self.registry = registry
        self.folder = folder
        self.reader = KafkaLogReader(client_options(settings))
        self.environment = {
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
            "KEYLANE_DATA_DIR": str(folder),
            "KEYLANE_SCHEMA_REGISTRY_URL": registry,
            "PYTHONPATH": str(ROOT),
        }

    def confirmed(self, number: int, **changes: Any) -> dict[str, Any]:
        data = {
            "reservation_id": f"r-{number}",
            "resource_id": "room-7",
            "customer_email": "bold@example.com",
            "customer_name": "Болд",
            "starts_at": "2026-12-01T10:00:00+08:00",
            "ends_at": "2026-12-01T12:00:00+08:00",
            "quantity": 1,
        }
        value = {"type": "reservation.confirmed", "tenant": self.tenant, "entity": f"room-{number % 5}", "data": data}
        return value | changes

    def signin(self, number: int) -> dict[str, Any]:
        data = {
            "user_id": f"u-{number}",
            "email": "bold@example.com",
            "name": "Болд",
            "provider": "google",
            "ip_address": "203.0.113.7",
            "user_agent": "test",
            "timestamp": "2026-12-01T10:00:00+08:00",
        }
        return {"type": "notification.signin", "tenant": self.tenant, "data": data, "id": f"job-{number}"}

    async def run(self, *words: str) -> tuple[int, str]:
        """The command in a thread of this process: it starts a loop of its own."""
        found = await asyncio.to_thread(CliRunner().invoke, app, words, env=self.environment)
        return found.exit_code, found.stderr.strip()

    def file(self, *lines: Any) -> str:
        path = self.folder / "in.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return str(path)

    async def stored(self) -> list[Record]:
        """This tenant's records, in order per partition."""
        ends = await self.reader.ends(TOPICS)
        found: list[Record] = []
        async for batch in self.reader.read(dict.fromkeys(ends, 0), ends):
            found += [record for record in batch if tenant_of(record.key) == self.tenant]
        return found


@pytest.fixture
async def office(
    settings: Settings, unique: Callable[[str], str], create_topics: Callable[..., Awaitable[None]], tmp_path: Path
) -> AsyncIterator[Office]:
    options, topic = client_options(settings), unique("schemas")
    await create_topics(topic, partitions=1)
    admin = TopicAdmin(options)
    declared = wanted(load_catalogue(settings), contracts(), 1)
    await admin.apply(await admin.plan([one for one in declared if one.name in TOPICS]))
    publisher = KafkaPublisher(options)
    await publisher.start()
    gateway = web.Application()
    gateway.add_subapp(
        "/registry", registry_app(RegistryStore(RegistryLog(publisher, KafkaLogReader(options), topic=topic)), anyone)
    )
    async with TestServer(gateway) as server:
        yield Office(settings, unique("acme"), str(server.make_url("/registry")), tmp_path)
    await publisher.stop()


async def test_events_and_jobs_are_published_in_order_and_can_be_read_by_their_contract(office: Office) -> None:
    values = [office.confirmed(number) for number in range(300)] + [office.signin(number) for number in range(20)]
    assert await office.run(office.file(*values)) == (0, "published 320 records")
    stored = await office.stored()
    codec = Codec(RegistryClient(office.registry), contracts())
    order: dict[bytes | None, list[str]] = {}
    for record in stored:
        await codec.load(record.value or b"")
        payload = codec.decode_now(record.value or b"")
        assert payload is not None
        order.setdefault(record.key, []).append(getattr(payload.model, "reservation_id", "job"))
    for entity in range(5):
        key = f"{office.tenant}/room-{entity}".encode()
        assert order[key] == [f"r-{number}" for number in range(entity, 300, 5)]
    jobs = [record for record in stored if record.topic == "jobs.emails"]
    assert {record.key for record in jobs} == {f"{office.tenant}/u-{number}".encode() for number in range(20)}
    assert {from_headers(record.headers)["id"] for record in jobs} == {f"job-{number}" for number in range(20)}


async def test_the_first_bad_line_stops_with_its_number_and_nothing_behind_it_is_sent(office: Office) -> None:
    bad = office.confirmed(2)
    bad["data"]["quantity"] = 0
    code, said = await office.run(office.file(office.confirmed(0), "", office.confirmed(1), bad, office.confirmed(3)))
    assert code == 1
    assert said.startswith("line 4: reservation.confirmed: /quantity: ")
    assert said.endswith("2 records were published before it, none after it")
    assert len(await office.stored()) == 2


async def test_bad_values_are_passed_over_on_request_also_from_standard_input(office: Office) -> None:
    event = office.confirmed(0)
    del event["entity"]
    cloud = {"specversion": "1.0", "id": "e-1", "source": "/shop", "subject": "room-1", **event}
    values = [cloud, {"type": "nothing"}, office.confirmed(1)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from streams.cli import main; main()",
        "publish",
        "-",
        "--skip-bad",
        cwd=office.folder,
        env={**os.environ, **office.environment},
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate(json.dumps(values, indent=1).encode())
    assert process.returncode == 2, err.decode()
    first, last = err.decode().strip().splitlines()
    assert first.startswith("line 19: /tenant: Field required")
    assert last == "published 2 records; bad values passed over: 1"
    assert [record.key for record in await office.stored()] == [f"{office.tenant}/room-1".encode()] * 2


async def test_a_mistake_is_one_sentence(office: Office) -> None:
    assert await office.run("missing.jsonl") == (1, "missing.jsonl: No such file or directory")
    office.environment["KEYLANE_SCHEMA_REGISTRY_URL"] = "http://127.0.0.1:1/registry"
    code, said = await office.run(office.file(office.confirmed(0)))
    assert code == 1
    assert said.startswith("no schema registry at http://127.0.0.1:1/registry")
    assert "start 'keylane gateway'" in said
    assert await office.stored() == []

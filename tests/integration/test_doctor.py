"""``keylane doctor`` before real servers: sound ones, and ones with faults planted in them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.catalogue import contracts
from schemas.registry import RegistryClient
from streams.adapters import sql
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.topics import TopicAdmin
from streams.catalogue import load_catalogue
from streams.dev import jars, ports
from streams.dev.kafka import KafkaBroker
from streams.gateway.registry import registry_app
from streams.topics import wanted
from tests.unit.registry_memory import MemoryLog, anyone, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from streams.settings import Settings

ROOT = Path(__file__).parents[2]
CATALOGUE = """
from streams.job import Catalogue, Queue

def discover(settings):
    return Catalogue(queues=(Queue(name="checked", tiers=(60.0,), partitions=2),))
"""
FAULTS = {"offset.metadata.max.bytes": "500", "offsets.retention.minutes": "60"}


async def doctor(environment: dict[str, str]) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and what is found by check."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from streams.cli import main; main()", "doctor", "--json"),
        env={**environment, "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    assert not err, err.decode()
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(out):
        found.setdefault(one["check"], []).append(one)
    return process.returncode, found


@pytest.fixture
async def registry() -> AsyncIterator[str]:
    app = web.Application()
    app.add_subapp("/registry", registry_app(opened(MemoryLog()), anyone))
    async with TestServer(app) as server:
        yield str(server.make_url("/registry"))


@pytest.fixture
def environment(settings: Settings, registry: str, tmp_path: Path) -> dict[str, str]:
    """A sound deployment's."""
    (tmp_path / "catalogue_checked.py").write_text(CATALOGUE)
    assert settings.database_url is not None
    return {
        "KEYLANE_CATALOGUE": "catalogue_checked:discover",
        "KEYLANE_DATA_DIR": str(tmp_path),
        "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
        "KEYLANE_REDIS_URL": str(settings.redis_url),
        "KEYLANE_DATABASE_URL": settings.database_url.get_secret_value(),
        "KEYLANE_SCHEMA_REGISTRY_URL": registry,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[str]:
    """The address of a broker with faults planted in its settings."""
    port = ports.any_free()
    broker = KafkaBroker(
        jars.fetch(jars.cache_dir(), print),
        tmp_path / "kafka",
        tmp_path / "kafka.log",
        port=port,
        controller_port=ports.any_free(),
        properties=FAULTS,
    )
    server = broker.prepare()
    server.start()
    server.wait_ready(60, threading.Event())
    yield f"127.0.0.1:{port}"
    server.stop()


async def register(url: str) -> None:
    client = RegistryClient(url)
    for contract in contracts():
        for schema in contract.schemas:
            await client.register(contract.fullname, schema)
    await client.close()


async def migrate(settings: Settings) -> None:
    assert settings.database_url is not None
    engine = sql.connect(settings.database_url.get_secret_value())
    await sql.migrate(engine)
    await engine.dispose()


async def test_a_sound_set_up_has_nothing_to_mend(settings, environment, registry, monkeypatch, tmp_path) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    catalogue = load_catalogue(settings.model_copy(update={"catalogue": environment["KEYLANE_CATALOGUE"]}))
    admin = TopicAdmin(client_options(settings))
    await admin.apply(await admin.plan(wanted(catalogue, contracts(), 1)))
    await register(registry)
    await migrate(settings)
    code, found = await doctor(environment)
    assert [one for findings in found.values() for one in findings if one["status"] != "ok"] == []
    assert code == 0
    assert set(found) == {
        "settings",
        "kafka version",
        "replication",
        "offset.metadata.max.bytes",
        "offsets.retention.minutes",
        "session timeout",
        "topics",
        "retention",
        "replicas",
        "message size",
        "registry",
        "redis version",
        "redis eviction",
        "clock of redis",
        "postgres",
        "clock of postgres",
    }


async def test_planted_faults_are_found_each_with_what_to_do(environment, faulty, registry) -> None:
    await plant(faulty)
    away = f"redis://127.0.0.1:{ports.any_free()}/0"
    code, found = await doctor({**environment, "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": faulty, "KEYLANE_REDIS_URL": away})
    assert code == 1
    failed = {check: [one["found"] for one in many if one["status"] == "fail"] for check, many in found.items()}
    assert failed["offset.metadata.max.bytes"] == ["500, 4000 needed"]
    assert failed["partitions"][0].startswith("jobs.checked.checked.dlt: it has 3 partitions and 2 are declared")
    assert failed["retention"] == ["jobs.checked.checked.retry.1 keeps records for 5 s, they wait 60 s"]
    assert failed["topics"][0].startswith("missing: _schemas")
    assert "redis is away" in failed["redis"][0]
    (offsets,) = found["offsets.retention.minutes"]
    assert offsets["status"] == "warn"
    (schemas,) = found["registry"]
    assert (schemas["status"], schemas["advice"]) == ("warn", "run `keylane schemas register`")
    assert all(one["advice"] for many in found.values() for one in many if one["status"] != "ok")


async def plant(address: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    source = "jobs.checked"
    await admin.create_topics(
        [
            NewTopic(source, 2, 1, topic_configs={"retention.ms": str(14 * 86_400_000)}),
            NewTopic(f"{source}.checked.retry.0", 2, 1),
            NewTopic(f"{source}.checked.retry.1", 2, 1, topic_configs={"retention.ms": "5000"}),
            NewTopic(f"{source}.checked.dlt", 3, 1, topic_configs={"retention.ms": "-1"}),
        ]
    )
    await admin.close()


async def test_a_schema_that_the_registry_would_refuse_fails(environment, registry) -> None:
    client, contract = RegistryClient(registry), contracts()[0]
    stranger = {"type": "record", "name": contract.fullname, "fields": [{"name": "other", "type": "int"}]}
    await client.register(contract.fullname, json.dumps(stranger))
    await client.close()
    _, found = await doctor(environment)
    assert found["registry"][0]["status"] == "fail"
    assert f"{contract.fullname} v1" in found["registry"][0]["found"]


async def test_a_setting_that_cannot_be_read_is_a_finding_and_not_a_traceback(environment) -> None:
    code, found = await doctor({**environment, "KEYLANE_MAX_RECORDS": "many"})
    assert (code, list(found)) == (1, ["settings"])
    assert "KEYLANE_MAX_RECORDS" in found["settings"][0]["found"]


async def test_declarations_that_cannot_be_loaded_are_a_finding(environment) -> None:
    code, found = await doctor({**environment, "KEYLANE_CATALOGUE": "nowhere:discover"})
    assert code == 1
    assert [one["status"] for one in found["settings"]] == ["ok", "fail"]
    assert "nowhere" in found["settings"][1]["found"]

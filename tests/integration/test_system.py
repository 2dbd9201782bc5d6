"""The system as its users meet it: the command line's processes, a foreign Kafka client, HTTP, the operator's tools."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from streams.dev import ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.settings import Settings

GROUPS = ["availability-cache", "hold-sweeper", "reservation-notifications"]
ROOT = Path(__file__).parents[2]
KEYLANE = str(Path(sys.executable).parent / "keylane")


class System:
    """A gateway and a worker as child processes on the test servers."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.port = ports.any_free()
        self.probe = ports.any_free()
        self.url = f"http://127.0.0.1:{self.port}"
        assert settings.database_url is not None
        self.env = os.environ | {
            "KEYLANE_DATA_DIR": str(folder),
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
            "KEYLANE_REDIS_URL": str(settings.redis_url),
            "KEYLANE_DATABASE_URL": settings.database_url.get_secret_value(),
            "KEYLANE_GATEWAY_PORT": str(self.port),
            "KEYLANE_WORKER_PORT": str(self.probe),
            "KEYLANE_TIER_SCALE": "0.01",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> None:
        self.processes.append(subprocess.Popen([KEYLANE, *words], cwd=ROOT, env=self.env))

    def run(self, *words: str) -> str:
        done = subprocess.run([KEYLANE, *words], cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def stop(self) -> list[int]:
        """Ask all to end, as an orchestrator would; their exit codes."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(30) for process in self.processes]


@pytest.fixture(scope="module")
def system(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    found = System(settings, tmp_path_factory.mktemp("system"))
    found.run("topics", "apply")
    found.start("gateway")
    found.start("worker")
    asyncio.run(answers(f"{found.url}/health/ready"))
    asyncio.run(answers(f"http://127.0.0.1:{found.probe}/health/ready"))
    yield found
    assert found.stop() == [0, 0], "both end cleanly when asked"


async def answers(url: str) -> None:
    async with asyncio.timeout(60), ClientSession() as http:
        while True:
            try:
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            await asyncio.sleep(0.1)


async def eventually(look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(40):
        while True:
            if wanted(found := await look()):
                return found
            await asyncio.sleep(0.1)


def confirmed(number: int) -> dict[str, Any]:
    return {
        "reservation_id": f"r-{number}",
        "resource_id": "court-1",
        "customer_email": "guest@example.com",
        "customer_name": "Guest",
        "starts_at": 1_900_000_000_000,
        "ends_at": 1_900_000_360_000,
        "quantity": 2,
    }


async def test_a_foreign_client_publishes_and_what_cannot_be_decoded_is_a_dead_letter(system: System, settings) -> None:
    registry = SchemaRegistryClient({"url": f"{system.url}/registry"})
    schema = (ROOT / "schemas/reservation_confirmed/v1.avsc").read_text()
    serialize = AvroSerializer(registry, schema, conf={"subject.name.strategy": record_subject_name_strategy})
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    topic, context = "events.reservation", SerializationContext("events.reservation", MessageField.VALUE)
    for number in range(20):
        producer.produce(topic, key=f"foreign/r-{number}", value=serialize(confirmed(number), context))
    producer.produce(topic, key="foreign/r-0", value=b"\x00nonsense")
    assert producer.flush(10) == 0

    async def handled() -> dict[str, float]:
        """Records done by group."""
        async with ClientSession() as http, http.get(f"http://127.0.0.1:{system.probe}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        done = [line for line in lines if 'type="reservation.confirmed"' in line and 'outcome="done"' in line]
        return {re.search(r'group="([^"]+)"', line)[1]: float(line.rpartition(" ")[2]) for line in done}

    await eventually(handled, lambda found: all(found.get(group, 0) >= 20 for group in GROUPS))

    async def dead() -> list[dict[str, Any]]:
        words = ("dlt", "ls", "--tenant", "foreign", "--output", "json")
        text = await asyncio.to_thread(system.run, *words)
        return json.loads(text)

    found = await eventually(dead, lambda entries: len(entries) >= 3)
    assert sorted(entry["group"] for entry in found) == GROUPS
    assert {entry["classification"] for entry in found} == {"undecodable"}
    assert {entry["key"] for entry in found} == {"foreign/r-0"}


async def test_a_job_over_http_is_found_at_once_and_ends_as_completed(system: System) -> None:
    body = {
        "type": "notification.signin",
        "tenant": "steppe",
        "key": "u-1",
        "payload": {
            "user_id": "u-1",
            "email": "u1@example.com",
            "name": "Bat",
            "provider": "google",
            "ip_address": "203.0.113.7",
            "user_agent": "Mozilla/5.0",
            "timestamp": "2026-11-24T02:00:00Z",
        },
    }
    async with ClientSession() as http:
        async with http.post(f"{system.url}/api/v1/jobs", json=body) as answer:
            assert answer.status == 202, await answer.text()
            location = answer.headers["Location"]
        url = location if location.startswith("http") else system.url + location

        async def job() -> dict[str, Any]:
            async with http.get(url) as found:
                assert found.status == 200, "a GET after the 202 never answers 404"
                return await found.json()

        done = await eventually(job, lambda found: found["status"] == "completed")
        assert done["type"] == "notification.signin"


async def test_the_worker_shows_its_lag_and_health(system: System) -> None:
    async with ClientSession() as http, http.get(f"http://127.0.0.1:{system.probe}/metrics") as answer:
        text = await answer.text()
    assert "keylane_rebalances_total" in text
    assert 'keylane_records_processed_total{group="emails"' in text

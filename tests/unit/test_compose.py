from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.app.gateway import url_of
from streams.cli import COMMANDS
from streams.settings import Settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.kafka.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / ".docker" / "Dockerfile").read_text()
DOCKER = shutil.which("docker")


def environment(name: str) -> dict[str, Any]:
    return dict(SERVICES[name]["environment"])


def test_the_client_accepts_the_file_where_it_knows_compose() -> None:
    known = DOCKER and subprocess.run([DOCKER, "compose", "version"], check=False, capture_output=True).returncode == 0
    if DOCKER and known:
        command = [DOCKER, "compose", "-f", str(FILE), "--profile", "cluster", "--profile", "registry", "config", "-q"]
        subprocess.run(command, check=True)


def test_all_parts_of_the_system_are_there() -> None:
    assert set(SERVICES) == {
        *("kafka-1", "kafka-2", "kafka-3", "redis", "postgres", "registry"),
        *("topics", "gateway", "worker"),
    }
    assert [name for name in SERVICES if SERVICES[name].get("profiles") == ["cluster"]] == ["kafka-2", "kafka-3"]
    assert SERVICES["registry"]["profiles"] == ["registry"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_unprivileged_limited_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert str(service["user"]).split(":")[0] not in {"0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert "test" in service["healthcheck"] or service["command"] == ["topics", "apply"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_the_loopback_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", ["kafka-1", "kafka-2", "kafka-3", "redis", "postgres"])
def test_what_holds_data_has_a_volume_of_its_own(name: str) -> None:
    (mount,) = SERVICES[name]["volumes"]
    assert mount.split(":")[0] == name
    assert name in COMPOSE["volumes"]


def test_services_wait_only_for_services_that_exist_and_optional_ones_are_not_required() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert "profiles" not in SERVICES[other] or how["required"] is False
            assert how["condition"] != "service_healthy" or "test" in SERVICES[other]["healthcheck"]


@pytest.mark.parametrize("name", ["topics", "gateway", "worker"])
def test_our_services_run_known_commands_with_known_settings(name: str) -> None:
    assert SERVICES[name]["command"][0] in COMMANDS
    settings = [key.removeprefix("KEYLANE_").lower() for key in environment(name) if key.startswith("KEYLANE_")]
    assert set(settings) <= set(Settings.model_fields)
    assert SERVICES[name]["read_only"] is True


def test_redis_keeps_what_it_acknowledged() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"


def test_brokers_share_one_cluster_and_create_no_topics_by_accident() -> None:
    brokers = [environment(f"kafka-{n}") for n in (1, 2, 3)]
    assert len({broker["CLUSTER_ID"] for broker in brokers}) == 1
    assert {broker["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] for broker in brokers} == {"false"}
    assert [broker["KAFKA_NODE_ID"] for broker in brokers] == [1, 2, 3]


def test_the_image_has_stages_locked_dependencies_and_an_unprivileged_user() -> None:
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert len(re.findall(r"pip install [^\n]*--require-hashes", DOCKERFILE)) == 2
    last_stage = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001:10001$", last_stage, re.MULTILINE)
    assert SERVICES["gateway"]["user"] == "10001:10001"


def test_the_image_copies_only_what_the_build_context_lets_through() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert {word.partition("/")[0] for words in copied for word in words.split()} == allowed


def test_the_gateway_starts_with_the_address_it_is_given() -> None:
    given = environment("gateway")
    settings = Settings(
        _env_file=None,
        gateway_host=given["KEYLANE_GATEWAY_HOST"],
        gateway_allow_open=given["KEYLANE_GATEWAY_ALLOW_OPEN"],
    )
    assert url_of(settings) == "http://0.0.0.0:8080"

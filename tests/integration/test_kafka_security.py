from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.dev import jars, ports
from streams.dev.kafka import KafkaBroker
from streams.job import TransientError
from streams.ports import Message
from streams.settings import Settings
from tests.self_signed import self_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=secret;"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
LISTENERS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of a throw-away server, which is its own authority, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder)
    return folder


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[dict[str, str]]:
    """Bootstrap servers by security protocol."""
    taken = {name: ports.any_free() for name in LISTENERS}
    controller = ports.any_free()
    addresses = {name: f"{name}://127.0.0.1:{port}" for name, port in taken.items()}
    folder = tmp_path_factory.mktemp("secured")
    broker = KafkaBroker(
        jars.fetch(jars.cache_dir(), print),
        folder / "kafka",
        folder / "kafka.log",
        port=taken["PLAINTEXT"],
        controller_port=controller,
        properties={
            "listeners": ",".join([*addresses.values(), f"CONTROLLER://127.0.0.1:{controller}"]),
            "advertised.listeners": ",".join(addresses.values()),
            "listener.security.protocol.map": ",".join(f"{n}:{n}" for n in LISTENERS) + ",CONTROLLER:PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(authority / "server.pem"),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            **{f"listener.name.{n}.plain.sasl.jaas.config": PLAIN for n in ("sasl_plaintext", "sasl_ssl")},
            **{
                f"listener.name.{n}.{mechanism}.sasl.jaas.config": SCRAM
                for n in ("sasl_plaintext", "sasl_ssl")
                for mechanism in ("scram-sha-256", "scram-sha-512")
            },
        },
        format_options=[
            "--add-scram=SCRAM-SHA-256=[name=alice,password=secret]",
            "--add-scram=SCRAM-SHA-512=[name=alice,password=secret]",
        ],
    )
    server = broker.prepare()
    server.start()
    server.wait_ready(60, threading.Event())
    yield {name: f"127.0.0.1:{port}" for name, port in taken.items()}
    server.stop()


def settings_for(secured: dict[str, str], protocol: str, **more: Any) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers=secured[protocol], kafka_security_protocol=protocol, **more)


CASES = [
    ("SSL", None),
    ("SASL_PLAINTEXT", "PLAIN"),
    ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
    ("SASL_PLAINTEXT", "SCRAM-SHA-512"),
    ("SASL_SSL", "SCRAM-SHA-512"),
]


@pytest.mark.parametrize(("protocol", "mechanism"), CASES)
async def test_a_record_is_published_over_every_way_to_authenticate(
    secured: dict[str, str], authority: Path, unique: Callable[[str], str], protocol: str, mechanism: str | None
) -> None:
    more: dict[str, Any] = {"kafka_ssl_cafile": authority / "ca.pem"} if protocol.endswith("SSL") else {}
    if mechanism:
        more |= {
            "kafka_sasl_mechanism": mechanism,
            "kafka_sasl_username": "alice",
            "kafka_sasl_password": "secret",
        }
    options = client_options(settings_for(secured, protocol, **more))
    topic = unique("orders")
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    publisher = KafkaPublisher(options)
    assert await publisher.publish(Message(topic, b"k", b"v")) == (topic, 0, 0)
    await publisher.stop()


async def test_a_wrong_password_is_not_let_in(secured: dict[str, str]) -> None:
    settings = settings_for(
        secured,
        "SASL_PLAINTEXT",
        kafka_sasl_mechanism="SCRAM-SHA-256",
        kafka_sasl_username="alice",
        kafka_sasl_password="wrong",
    )
    with pytest.raises(TransientError):
        await KafkaPublisher(client_options(settings), timeout=5).start()


async def test_a_server_of_an_unknown_authority_is_not_trusted(secured: dict[str, str]) -> None:
    with pytest.raises(TransientError):
        await KafkaPublisher(client_options(settings_for(secured, "SSL")), timeout=5).start()

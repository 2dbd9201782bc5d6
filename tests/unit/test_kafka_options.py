from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streams.adapters.kafka.options import client_options
from streams.settings import Settings, SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def options(**given: Any) -> dict[str, Any]:
    return client_options(Settings(_env_file=None, **{"kafka_bootstrap_servers": "kafka:9092", **given}))


def test_a_plain_broker_needs_its_address_only() -> None:
    found = options()
    assert found["bootstrap_servers"] == "kafka:9092"
    assert found["ssl_context"] is None
    assert "sasl_mechanism" not in found


def test_credentials_are_handed_on() -> None:
    found = options(
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="alice",
        kafka_sasl_password="secret",
    )
    assert found["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (found["sasl_plain_username"], found["sasl_plain_password"]) == ("alice", "secret")


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"kafka_bootstrap_servers": None}, "KEYLANE_KAFKA_BOOTSTRAP_SERVERS"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_sasl_password": "x"}, "KEYLANE_KAFKA_SASL_USERNAME"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "x"}, "KEYLANE_KAFKA_SASL_PASSWORD"),
        ({"kafka_sasl_username": "x"}, "KEYLANE_KAFKA_SECURITY_PROTOCOL"),
        ({"kafka_sasl_password": "x", "kafka_security_protocol": "SSL"}, "KEYLANE_KAFKA_SECURITY_PROTOCOL"),
        ({"kafka_ssl_cafile": "ca.pem"}, "KEYLANE_KAFKA_SSL_CAFILE"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_keyfile": "k.pem"}, "KEYLANE_KAFKA_SSL_CERTFILE"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_cafile": "missing.pem"}, "KEYLANE_KAFKA_SSL_CAFILE"),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_certfile": "missing.pem"}, "KEYLANE_KAFKA_SSL_CERTFILE"),
    ],
)
def test_settings_that_contradict_each_other_are_named(given: dict[str, Any], variable: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        options(**given)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("not a certificate")
    with pytest.raises(SettingsError, match=r"ca\.pem"):
        options(kafka_security_protocol="SSL", kafka_ssl_cafile=broken)

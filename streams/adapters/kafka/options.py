"""What every aiokafka client is told about the cluster: addresses, TLS and SASL, from the settings.

Invariant: settings that contradict each other are refused here, before any connection, with the variable's name.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from streams.adapters.kafka.transports import heed_broken_connections
from streams.settings import SettingsError

if TYPE_CHECKING:
    from streams.settings import Settings


def client_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for ``AIOKafkaProducer``, ``AIOKafkaConsumer`` and ``AIOKafkaAdminClient``.

    Raises:
        SettingsError: A variable is missing, or two contradict each other.
    """
    heed_broken_connections()
    if not settings.kafka_bootstrap_servers:
        raise SettingsError(
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS: name a broker, or start the embedded one (keylane dev up)"
        )
    return {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "client_id": settings.instance_id or "keylane",
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _tls(settings),
        **_sasl(settings),
    }


def _sasl(settings: Settings) -> dict[str, Any]:
    username, password = settings.kafka_sasl_username, settings.kafka_sasl_password
    if not settings.kafka_security_protocol.startswith("SASL"):
        if username is not None or password is not None:
            raise SettingsError(
                "KEYLANE_KAFKA_SECURITY_PROTOCOL: SASL credentials are given, so it must be SASL_PLAINTEXT or SASL_SSL"
            )
        return {}
    if not username:
        raise SettingsError(f"KEYLANE_KAFKA_SASL_USERNAME: {settings.kafka_security_protocol} needs it")
    if password is None:
        raise SettingsError(f"KEYLANE_KAFKA_SASL_PASSWORD: {settings.kafka_security_protocol} needs it")
    return {
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": username,
        "sasl_plain_password": password.get_secret_value(),
    }


def _tls(settings: Settings) -> ssl.SSLContext | None:
    given = [
        name
        for name in ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile")
        if getattr(settings, name) is not None
    ]
    if "SSL" not in settings.kafka_security_protocol.split("_"):
        if given:
            raise SettingsError(f"KEYLANE_{given[0].upper()}: KEYLANE_KAFKA_SECURITY_PROTOCOL must be SSL or SASL_SSL")
        return None
    if settings.kafka_ssl_keyfile and not settings.kafka_ssl_certfile:
        raise SettingsError("KEYLANE_KAFKA_SSL_CERTFILE: a key without its certificate is of no use")
    return _context(settings)


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"KEYLANE_KAFKA_SSL_CAFILE: {settings.kafka_ssl_cafile}: {error}") from error
    if settings.kafka_ssl_certfile:
        try:
            context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"KEYLANE_KAFKA_SSL_CERTFILE: {settings.kafka_ssl_certfile}: {error}") from error
    return context

"""All settings, read from the environment (``KEYLANE_*``) once at the start. Nothing else reads the environment.

Invariant: a missing or malformed variable stops the start with its name.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """The environment does not make valid settings; the message names each variable."""


class Settings(BaseSettings):
    """Every setting of every process; ``.env.example`` lists them with their defaults."""

    model_config = SettingsConfigDict(env_prefix="KEYLANE_", env_file=".env", extra="ignore", frozen=True)

    data_dir: Path = Path(".keylane")
    catalogue: str = "consumers:discover"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Real servers; what is not named is embedded.
    kafka_bootstrap_servers: str | None = None
    redis_url: str | None = None
    database_url: SecretStr | None = None
    schema_registry_url: str | None = None

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    redis_ssl_cafile: Path | None = None

    replication_factor: int = 1
    instance_id: str | None = None  # group.instance.id: static membership, a rolling restart moves nothing

    otlp_endpoint: Annotated[str, StringConstraints(pattern="^https?://")] | None = (
        None  # of a collector: traces are off without it
    )
    trace_ratio: float = Field(default=1.0, ge=0, le=1)  # the share of traces begun here that is sampled

    # Flow and rebalance of a worker.
    max_records: int = 2_000  # held per partition
    max_bytes: int = 67_108_864  # held in all
    commit_interval: float = 0.1
    drain_timeout: float = 10.0
    session_timeout: float = 10.0
    rebalance_timeout: float = 30.0
    stall_timeout: float = 60.0  # lag without progress for so long: the consumer is rebuilt
    effect_retention: float = 2_592_000.0  # seconds the outcome of a once-handler is remembered: 30 days
    tier_scale: float = 1.0  # multiplies every tier's delay; below 1 for demonstrations
    max_replays: int = 3
    dlt_aliases: bool = True  # Spring's and Kafka Streams' header names on dead letters

    worker_host: str = "127.0.0.1"
    worker_port: int | None = None  # metrics and probes of a worker; none where it is not set

    gateway_host: str = "127.0.0.1"
    gateway_port: int = 8080
    gateway_metrics_port: int | None = None  # process k of a gateway shows its metrics and health at this port + k
    gateway_allow_open: bool = False  # serve unauthenticated clients of other machines (in a container, behind a proxy)
    gateway_auth: str = "none"  # how clients prove who they are, any of: none (loopback only), key, hmac, jwt
    gateway_auth_routes: str | None = None  # JSON: route, or the beginning of paths, to modes; the longest one counts
    secret_keys: SecretStr | None = None  # id:base64 of 32 bytes, comma-separated; the first one makes new things
    jwt_issuers: SecretStr | None = None  # JSON list, see docs/access.md
    max_body_bytes: int = 1_048_576  # of a request, also when it is unpacked
    body_timeout: float = 30.0  # seconds a whole body may take, and the headers before it
    max_unacknowledged: int = 5_000  # records that wait for the broker at once
    max_unacknowledged_bytes: int = 67_108_864
    event_acks: Literal["all", "leader"] = "all"  # who has an event that is accepted; jobs are always with all
    idempotency_ttl: float = 172_800.0  # seconds the answer to a request with an Idempotency-Key is kept
    live_subscribers: int = 10_000  # streams and WebSockets of one gateway at once
    public_url: str | None = None
    api_key: SecretStr | None = None  # of the commands that speak to a gateway
    signing_secret: SecretStr | None = None  # they sign with it instead of sending the key
    limits: tuple[dict[str, Any], ...] = ()  # of requests; see streams.gateway.limits.Limit
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()  # whose X-Forwarded-For is believed
    cors_origins: tuple[str, ...] = ()

    mail_transport: Literal["log", "smtp"] = "log"
    mail_from: str = "keylane <no-reply@localhost>"
    smtp_host: str = "127.0.0.1"
    smtp_port: int = 25
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: Literal["none", "starttls", "tls"] = "none"
    smtp_ssl_cafile: Path | None = None  # who signed the mail server's certificate, if not an authority of the system
    signin_mails_per_hour: int = 10

    @property
    def registry_url(self) -> str:
        """The schema registry named, or the one the gateway serves."""
        return self.schema_registry_url or f"http://{self.gateway_host}:{self.gateway_port}/registry"


def load() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: A variable is missing or malformed; the message names it and what is wrong with it.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"KEYLANE_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise SettingsError("; ".join(lines)) from None

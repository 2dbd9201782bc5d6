"""Wires who may do what at the gateway: modes, API keys, tokens and the audit trail, as the settings have them.

Invariant: a mode that lacks what it needs stops the start; there is no secret but those of the settings.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError, model_validator
from yarl import URL

from streams.adapters.audit import SqlAudit
from streams.adapters.jwks import Algorithm, KeySet, OneKey, fetched
from streams.adapters.keys import SqlKeys
from streams.adapters.nonces import RedisNonces
from streams.adapters.tokens import Issuer, JwtTokens
from streams.adapters.vault import Vault, masters
from streams.gateway.access import OpenAccess
from streams.gateway.acts import LoggedAudit
from streams.gateway.authentication import Authentication
from streams.gateway.keycache import KeyCache
from streams.gateway.keys import Keyring
from streams.gateway.modes import Mode, Modes, parsed
from streams.gateway.proofs import KeyProof, SignatureProof, TokenProof
from streams.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from streams.app.connections import Connections
    from streams.audit import Audit
    from streams.gateway.access import Access
    from streams.gateway.authentication import Proof
    from streams.metrics import Metrics
    from streams.ports import Publisher
    from streams.settings import Settings

_RELAY = 1.0  # seconds between two looks for audit records the topic does not have
_Text = Annotated[str, StringConstraints(min_length=1)]
_ROUTES = TypeAdapter(dict[str, str])
_log = structlog.get_logger(__name__)


class _IssuerSettings(BaseModel):
    """An entry of ``KEYLANE_JWT_ISSUERS``."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    issuer: _Text
    audience: _Text
    algorithm: Algorithm
    key: _Text | None = None
    key_file: Path | None = None
    jwks_url: _Text | None = None
    tenant_claim: _Text = "tenant"
    scopes_claim: _Text = "scope"

    @model_validator(mode="after")
    def _checked(self) -> _IssuerSettings:
        if [self.key, self.key_file, self.jwks_url].count(None) != 2:  # noqa: PLR2004 - one of three
            raise ValueError("one of key, key_file and jwks_url is needed")
        if self.jwks_url is not None and (self.algorithm == "HS256" or not _is_safe(self.jwks_url)):
            raise ValueError("jwks_url is an https address, and not for HS256")
        return self


_ISSUERS = TypeAdapter(list[_IssuerSettings])


@dataclass(frozen=True, slots=True)
class Guard:
    """What the gateway is given."""

    access: Access
    audit: Audit
    keyring: Keyring | None


def modes_of(settings: Settings) -> Modes:
    """How callers of each route prove who they are.

    Raises:
        SettingsError: A list of modes is malformed, or a mode lacks what it needs.
    """
    with _named("KEYLANE_GATEWAY_AUTH"):
        default = parsed(settings.gateway_auth)
    with _named("KEYLANE_GATEWAY_AUTH_ROUTES"):
        routes = _ROUTES.validate_json(settings.gateway_auth_routes or "{}")
        modes = Modes(default, {pattern: parsed(text) for pattern, text in routes.items()})
    if modes.used & {Mode.KEY, Mode.HMAC} and settings.secret_keys is None:
        raise SettingsError(
            "KEYLANE_SECRET_KEYS: the modes key and hmac need it; 'keylane keys secret' makes a new one to put there"
        )
    if Mode.JWT in modes.used and settings.jwt_issuers is None:
        raise SettingsError("KEYLANE_JWT_ISSUERS: the mode jwt needs it: name at least one issuer")
    return modes


def vault_of(settings: Settings) -> Vault | None:
    """What the master keys are for; None where there are none.

    Raises:
        SettingsError: They are malformed.
    """
    if settings.secret_keys is None:
        return None
    with _named("KEYLANE_SECRET_KEYS"):
        return Vault(masters(settings.secret_keys.get_secret_value()))


def tokens_of(settings: Settings) -> JwtTokens:
    """What verifies tokens.

    Raises:
        SettingsError: An issuer is malformed, or has no key that fits.
    """
    text = "[]" if settings.jwt_issuers is None else settings.jwt_issuers.get_secret_value()
    with _named("KEYLANE_JWT_ISSUERS"):
        issuers = _ISSUERS.validate_json(text)
        if not issuers or len({each.issuer for each in issuers}) < len(issuers):
            raise ValueError("it names no issuer, or one twice")
        return JwtTokens([_issuer(each) for each in issuers])


@contextlib.asynccontextmanager
async def guard(settings: Settings, found: Connections, metrics: Metrics) -> AsyncIterator[Guard]:
    """What stands before the routes.

    Raises:
        SettingsError: A mode lacks what it needs, or it is malformed.
    """
    modes, vault = modes_of(settings), vault_of(settings)
    proofs: dict[Mode, Proof] = {}
    audit: Audit = LoggedAudit()
    ring: Keyring | None = None
    async with contextlib.AsyncExitStack() as stack:
        if vault is not None:
            audit = trail = SqlAudit(found.sql, vault)
            keys = SqlKeys(found.sql, trail)
            ring = Keyring(keys, vault, KeyCache(keys))
            stack.push_async_callback(ring.cache.close)
            await stack.enter_async_context(_relayed(trail, found.publisher))
            proofs[Mode.HMAC] = SignatureProof(ring.cache, vault, RedisNonces(found.redis))
            proofs[Mode.KEY] = KeyProof(ring.cache, vault)
        if Mode.JWT in modes.used:
            proofs[Mode.JWT] = TokenProof(tokens_of(settings))
        access = Authentication(modes, proofs, metrics) if modes.used - {Mode.NONE} else OpenAccess()
        yield Guard(access, audit, ring)


def _issuer(given: _IssuerSettings) -> Issuer:
    if given.jwks_url is not None:
        keys: KeySet | OneKey = KeySet(given.algorithm, partial(fetched, given.jwks_url))
    else:
        try:
            text = given.key_file.read_text() if given.key_file is not None else given.key or ""
            keys = OneKey(given.algorithm, text)
        except (OSError, ValueError) as error:
            raise ValueError(f"{given.issuer}: {error}") from None
    return Issuer(
        issuer=given.issuer,
        audience=given.audience,
        algorithm=given.algorithm,
        keys=keys,
        tenant_claim=given.tenant_claim,
        scopes_claim=given.scopes_claim,
    )


def _is_safe(url: str) -> bool:
    given = URL(url)
    return given.scheme == "https" or (given.scheme == "http" and given.host in {"localhost", "127.0.0.1", "::1"})


@contextlib.contextmanager
def _named(variable: str) -> Iterator[None]:
    """Turn what is wrong with a variable into a SettingsError that names it, and repeats no secret."""
    try:
        yield
    except ValidationError as error:
        found = "; ".join(f"{'/'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise SettingsError(f"{variable}: {found}") from None
    except ValueError as error:
        raise SettingsError(f"{variable}: {error}") from None


@contextlib.asynccontextmanager
async def _relayed(audit: SqlAudit, publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(_relay(audit, publisher))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _relay(audit: SqlAudit, publisher: Publisher) -> None:
    told = ""
    while True:
        try:
            await audit.publish(publisher)
            told = ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the records wait in the database for the next look
            if str(error) != told:
                told = str(error)
                _log.warning("audit records not published yet", reason=f"{type(error).__name__}: {told}")
        await asyncio.sleep(_RELAY)

"""What proves who asks: an API key, a signature made with a key's signing secret, or a JSON Web Token.

Invariant: what costs nothing is checked first; a nonce is used up only by a request whose signature fits.
"""

from __future__ import annotations

import base64
import re
import time
from hmac import compare_digest
from typing import TYPE_CHECKING

import structlog

from streams import signing
from streams.credentials import RefusedError
from streams.gateway import body
from streams.gateway.access import Caller
from streams.keys import PREFIX, TEXT, SecretError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from streams.credentials import Nonces, Tokens
    from streams.gateway.keycache import Held, KeyCache
    from streams.keys import Secrets

SKEW = 300  # seconds between a client's clock and ours
_NONCES_KEPT = 2 * SKEW  # a timestamp that is ahead is accepted for so long
_BEARER, _BASIC = "bearer ", "basic "
_SECONDS = re.compile(r"[0-9]{1,12}")
_log = structlog.get_logger(__name__)


class KeyProof:
    """``Authorization: Bearer kl_…``, ``X-API-Key: kl_…``, or the password of ``Authorization: Basic``.

    Clients of schema registries know no other way than the last one.

    Args:
        clock: Seconds since the epoch.
    """

    scheme = "Bearer"

    def __init__(self, keys: KeyCache, vault: Secrets, *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._vault = vault
        self._clock = clock

    def presented(self, request: web.Request) -> str | None:
        """A key in either header."""
        return request.headers.get("X-API-Key") or _bearer(request, key=True) or _password(request)

    async def caller(self, request: web.Request, credential: str) -> Caller:
        """See ``Proof.caller``."""
        del request
        shape = TEXT.fullmatch(credential)
        if shape is None:
            raise RefusedError("malformed")
        held = await self._keys.find(shape[1])
        if held is None:
            raise RefusedError("unknown")
        try:
            fits = held.key.fits(credential, self._vault)
        except SecretError as error:
            raise _unreadable(held, error) from None
        if not fits:
            raise RefusedError("wrong")
        return in_force(held, self._clock())


class SignatureProof:
    """The four headers of ``streams.signing``."""

    scheme = "Keylane-HMAC-SHA256"

    def __init__(
        self, keys: KeyCache, vault: Secrets, nonces: Nonces, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._vault = vault
        self._nonces = nonces
        self._clock = clock

    def presented(self, request: web.Request) -> str | None:
        """A signature."""
        return request.headers.get(signing.SIGNATURE)

    async def caller(self, request: web.Request, credential: str) -> Caller:
        """See ``Proof.caller``."""
        headers = request.headers
        prefix, timestamp, nonce = (headers.get(name, "") for name in (signing.KEY, signing.TIMESTAMP, signing.NONCE))
        self._check_shape(prefix, timestamp, nonce)
        held = await self._keys.find(prefix)
        if held is None:
            raise RefusedError("unknown")
        caller = in_force(held, self._clock())
        sent = await body.raw(request)
        expected = signing.signature(
            self._secret(held), request.method, request.raw_path, sent, timestamp=timestamp, nonce=nonce
        )
        if not compare_digest(expected.encode(), credential.encode("utf-8", "surrogateescape")):
            raise RefusedError("wrong")
        if not await self._nonces.take(prefix, nonce, _NONCES_KEPT):
            raise RefusedError("replayed", "The nonce was used before; sign the request anew.")
        return caller

    def _check_shape(self, prefix: str, timestamp: str, nonce: str) -> None:
        if not (PREFIX.fullmatch(prefix) and _SECONDS.fullmatch(timestamp) and signing.NONCES.fullmatch(nonce)):
            raise RefusedError("malformed")
        if abs(self._clock() - int(timestamp)) > SKEW:
            raise RefusedError("stale", f"The timestamp is more than {SKEW} s off; check the clock and sign anew.")

    def _secret(self, held: Held) -> str:
        try:
            return self._vault.open(held.key.signing, held.key.row).decode()
        except SecretError as error:
            raise _unreadable(held, error) from None


class TokenProof:
    """``Authorization: Bearer`` with a JSON Web Token."""

    scheme = "Bearer"

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def presented(self, request: web.Request) -> str | None:
        """A bearer token that is no API key."""
        return _bearer(request, key=False)

    async def caller(self, request: web.Request, credential: str) -> Caller:
        """See ``Proof.caller``."""
        del request
        claims = await self._tokens.verify(credential)
        return Caller(f"jwt:{claims.issuer}:{claims.subject}", claims.tenant, claims.scopes)


def in_force(held: Held, now: float) -> Caller:
    """The caller behind a key, if it is neither revoked nor expired; ``now`` in seconds since the epoch.

    Raises:
        RefusedError: It is.
    """
    if held.key.revoked_at is not None:
        raise RefusedError("revoked")
    if held.key.expires_at is not None and held.key.expires_at <= now * 1000:
        raise RefusedError("expired")
    return held.caller


def _bearer(request: web.Request, *, key: bool) -> str | None:
    given = request.headers.get("Authorization", "")
    if given[: len(_BEARER)].lower() != _BEARER:
        return None
    token = given[len(_BEARER) :].strip()
    return token if token.startswith("kl_") == key else None


def _password(request: web.Request) -> str | None:
    given = request.headers.get("Authorization", "")
    if given[: len(_BASIC)].lower() != _BASIC:
        return None
    try:
        return base64.b64decode(given[len(_BASIC) :], validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _unreadable(held: Held, error: SecretError) -> RefusedError:
    _log.error("API key cannot be read", key=held.key.prefix, reason=str(error))
    return RefusedError("unreadable")

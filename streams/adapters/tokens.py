"""JSON Web Tokens, with PyJWT: the ``Tokens`` port.

Invariant: algorithm and keys are those of the settings, chosen by the token's issuer alone. What a token's header says
of them (``alg``, ``jku``, ``jwk``, ``x5u``) chooses nothing; ``kid`` picks among the issuer's own keys.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt

from streams.adapters.jwks import KeyNotKnownError
from streams.credentials import Claims, RefusedError
from streams.keys import TENANT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.adapters.jwks import Algorithm, Keys

LEEWAY = 30  # seconds
REMEMBERED = 60  # seconds; verifying costs a hundred microseconds and more
_MOST = 10_000  # tokens
_LONGEST_TOKEN = 8_192  # characters
_LONGEST_NAME = 200  # characters of a subject
_OPTIONS: Any = {"require": ["exp", "aud", "iss", "sub"], "enforce_minimum_key_length": True}
_READ_ONLY: Any = {"verify_signature": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who may issue tokens, for which audience, and how they are signed."""

    issuer: str
    audience: str
    algorithm: Algorithm
    keys: Keys = field(repr=False)
    tenant_claim: str = "tenant"
    scopes_claim: str = "scope"


class _Seen(NamedTuple):
    """A token that was verified, until when that counts."""

    claims: Claims
    until: float


class JwtTokens:
    """The ``Tokens`` port. A verified token is remembered, as its hash, for ``REMEMBERED`` seconds, or until it ends.

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(self, issuers: Sequence[Issuer], *, clock: Callable[[], float] = time.time) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._clock = clock
        self._seen: dict[bytes, _Seen] = {}

    async def verify(self, token: str) -> Claims:
        """See ``Tokens.verify``."""
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise RefusedError("malformed")
        digest = blake2b(token.encode()).digest()
        seen = self._seen.get(digest)
        if seen is None or self._clock() >= seen.until:
            seen = await self._judged(token)
            self._remember(digest, seen)
        return seen.claims

    def _remember(self, digest: bytes, seen: _Seen) -> None:
        self._seen.pop(digest, None)
        if len(self._seen) >= _MOST:
            del self._seen[next(iter(self._seen))]
        self._seen[digest] = seen

    async def _judged(self, token: str) -> _Seen:
        try:
            issuer = self._issuers.get(_claimed_issuer(token))
            if issuer is None:
                raise RefusedError("unknown")
            key = await issuer.keys.find(jwt.get_unverified_header(token).get("kid"))
            claims = _verified(token, key, issuer)
        except jwt.ExpiredSignatureError:
            raise RefusedError("expired", "The token has expired.") from None
        except KeyNotKnownError:
            raise RefusedError("unknown") from None
        except jwt.PyJWTError as error:
            raise RefusedError("malformed" if type(error) is jwt.DecodeError else "wrong") from None
        until = min(int(claims["exp"]) + LEEWAY, self._clock() + REMEMBERED)
        return _Seen(_claims(claims, issuer), until)


def _claimed_issuer(token: str) -> str:
    claimed = jwt.decode(token, options=_READ_ONLY).get("iss")
    return claimed if isinstance(claimed, str) else ""


def _verified(token: str, key: Any, issuer: Issuer) -> Mapping[str, Any]:
    return jwt.decode(
        token,
        key,
        algorithms=[issuer.algorithm],
        audience=issuer.audience,
        issuer=issuer.issuer,
        leeway=LEEWAY,
        options=_OPTIONS,
    )


def _claims(claims: Mapping[str, Any], issuer: Issuer) -> Claims:
    subject, tenant = claims["sub"], claims.get(issuer.tenant_claim)
    if not isinstance(tenant, str) or not TENANT.fullmatch(tenant) or not 0 < len(subject) <= _LONGEST_NAME:
        raise RefusedError("incomplete")
    given = claims.get(issuer.scopes_claim, ())
    scopes = given.split() if isinstance(given, str) else given
    if not isinstance(scopes, list | tuple) or not all(isinstance(scope, str) for scope in scopes):
        raise RefusedError("incomplete")
    return Claims(issuer.issuer, subject, tenant, frozenset(scopes))

"""JSON Web Tokens, with PyJWT: the ``Tokens`` port.

Invariant: algorithm and keys are those of the settings, chosen by the token's issuer alone. What a token's header says
of them (``alg``, ``jku``, ``jwk``, ``x5u``) chooses nothing; ``kid`` picks among the issuer's own keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt

from streams.adapters.jwks import KeyNotKnownError
from streams.credentials import Claims, RefusedError
from streams.keys import TENANT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.adapters.jwks import Algorithm, Keys

LEEWAY = 30  # seconds
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


class JwtTokens:
    """The ``Tokens`` port."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}

    async def verify(self, token: str) -> Claims:
        """See ``Tokens.verify``."""
        if len(token) > _LONGEST_TOKEN or not token.isascii():
            raise RefusedError("malformed")
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
        return _claims(claims, issuer)


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

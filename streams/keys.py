"""API keys: what is shown once, what is kept, and what keeps it.

A key is the text ``kl_<prefix>_<secret>``. The prefix names it; of the secret only a keyed hash is kept. Each key has a
signing secret too, for requests that are signed instead of carrying the key; it is kept encrypted.

Invariant: neither text can be read from an ``ApiKey`` without the master keys.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.audit import Act

TEXT = re.compile(r"kl_([0-9a-f]{12})_([0-9a-f]{48})")
TENANT = re.compile(r"[^/\x00-\x20\x7f]{1,128}")
PREFIX = re.compile(r"[0-9a-f]{12}")
ADMIN = "admin"
_HASH = "api-key"
_MARK = "kls_"  # of a signing secret: secret scanners find it, and nobody takes it for a key


class SecretError(Exception):
    """What a secret protects cannot be read: its master key is not there, or it was tampered with."""


class Secrets(Protocol):
    """Keyed hashes and encryption; ``current`` is the id of the master key that new things are made with."""

    current: str

    def mac(self, key_id: str, purpose: str, text: bytes) -> bytes:
        """A keyed hash of 32 bytes, of a key for this purpose alone.

        Raises:
            SecretError: There is no such master key.
        """

    def seal(self, text: bytes, row: str) -> str:
        """The text encrypted for this row."""

    def open(self, sealed: str, row: str) -> bytes:
        """What was sealed for this row.

        Raises:
            SecretError: There is no such master key, it was changed, or it is another row's.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept; times in milliseconds since the epoch.

    Attributes:
        tenant: The one tenant it acts for; None, for admins only, acts for all.
        secret_id: Of the master key behind ``digest``.
        signing: The signing secret, encrypted.
    """

    prefix: str
    name: str
    scopes: frozenset[str]
    tenant: str | None
    secret_id: str
    digest: bytes = field(repr=False)
    signing: str = field(repr=False)
    created_at: int
    created_by: str
    expires_at: int | None = None
    revoked_at: int | None = None

    @property
    def row(self) -> str:
        """What its encrypted parts are bound to."""
        return f"api_keys/{self.prefix}"

    def fits(self, text: str, vault: Secrets) -> bool:
        """Whether the text is this key, compared in constant time.

        Raises:
            SecretError: The master key behind it is not there.
        """
        return compare_digest(vault.mac(self.secret_id, _HASH, text.encode()), self.digest)

    def revoked(self, at: int) -> ApiKey:
        """The same key, not valid any more."""
        return replace(self, revoked_at=at)

    def described(self) -> dict[str, Any]:
        """All of it that is no secret."""
        return {
            "prefix": self.prefix,
            "name": self.name,
            "scopes": sorted(self.scopes),
            "tenant": self.tenant,
            "created_at": self.created_at,
            "created_by": self.created_by,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants a key for.

    Raises:
        ValueError: It has no scope, no tenant though it is not for an admin, or one that cannot be.
    """

    name: str
    scopes: frozenset[str]
    tenant: str | None
    expires_at: int | None = None

    def __post_init__(self) -> None:
        if not self.scopes:
            raise ValueError("a key needs a scope")
        if self.tenant is None and ADMIN not in self.scopes:
            raise ValueError("a key without the scope admin needs a tenant")
        if self.tenant is not None and not TENANT.fullmatch(self.tenant):
            raise ValueError("a tenant has up to 128 characters, no slash and no space")


class Issued(NamedTuple):
    """A new key with its two texts, which are shown now and never again."""

    key: ApiKey
    text: str
    signing_secret: str


def issue(order: Order, vault: Secrets, *, by: str, now: int) -> Issued:
    """Make a key: 192 random bits, and 256 for its signing secret.

    Raises:
        ValueError: It would have expired before it is made.
    """
    if order.expires_at is not None and order.expires_at <= now:
        raise ValueError("the key would expire before it is made")
    prefix, signing_secret = secrets.token_hex(6), _MARK + secrets.token_hex(32)
    text = f"kl_{prefix}_{secrets.token_hex(24)}"
    key = ApiKey(
        prefix=prefix,
        name=order.name,
        scopes=order.scopes,
        tenant=order.tenant,
        secret_id=vault.current,
        digest=vault.mac(vault.current, _HASH, text.encode()),
        signing=vault.seal(signing_secret.encode(), f"api_keys/{prefix}"),
        created_at=now,
        created_by=by,
        expires_at=order.expires_at,
    )
    return Issued(key, text, signing_secret)


class KeyStore(Protocol):
    """Keeps keys. All methods raise TransientError when it is away; then nothing was changed, or all of it was."""

    async def find(self, prefixes: Sequence[str]) -> dict[str, ApiKey]:
        """Those there are, by prefix."""

    async def all(self, tenant: str | None) -> list[ApiKey]:
        """The keys of the tenant, None: of all tenants and of none; newest first."""

    async def add(self, key: ApiKey, act: Act) -> None:
        """Store a new key, together with the audit record of the act."""

    async def revoke(self, key: ApiKey, act: Act) -> ApiKey:
        """Store when the key was revoked, together with the audit record of the act, unless it was revoked before.

        The key as it stands then.
        """

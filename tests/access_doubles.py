"""In-memory stand-ins for what authentication depends on, and a gateway that authenticates on top of them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streams import signing
from streams.adapters.vault import Vault, masters, new_master
from streams.gateway.authentication import Authentication
from streams.gateway.keycache import KeyCache
from streams.gateway.keys import Keyring
from streams.gateway.modes import Mode, Modes, parsed
from streams.gateway.proofs import KeyProof, SignatureProof, TokenProof
from streams.keys import Issued, Order, issue
from tests.gateway_doubles import Bench

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.audit import Act
    from streams.credentials import Tokens
    from streams.gateway.authentication import Proof
    from streams.keys import ApiKey


class MemoryKeys:
    """A key store; ``away`` is raised instead of an answer, ``acts`` are what would be in the audit trail."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.acts: list[Act] = []
        self.asked: list[list[str]] = []
        self.away: Exception | None = None

    async def find(self, prefixes: Sequence[str]) -> dict[str, ApiKey]:
        self.asked.append(list(prefixes))
        if self.away:
            raise self.away
        return {prefix: self.keys[prefix] for prefix in prefixes if prefix in self.keys}

    async def all(self, tenant: str | None) -> list[ApiKey]:
        return [key for key in self.keys.values() if tenant in {None, key.tenant}]

    async def add(self, key: ApiKey, act: Act) -> None:
        if self.away:
            raise self.away
        self.acts.append(act)
        self.keys[key.prefix] = key

    async def revoke(self, key: ApiKey, act: Act) -> ApiKey:
        if self.away:
            raise self.away
        self.acts.append(act)
        self.keys[key.prefix] = key
        return key


class Acts:
    """An audit trail in memory."""

    def __init__(self) -> None:
        self.told: list[Act] = []
        self.away: Exception | None = None

    async def record(self, act: Act) -> None:
        if self.away:
            raise self.away
        self.told.append(act)


class MemoryNonces:
    """Nonces that were taken, with how long they are kept."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, str], float] = {}
        self.away: Exception | None = None

    async def take(self, key: str, nonce: str, seconds: float) -> bool:
        if self.away:
            raise self.away
        if (key, nonce) in self.taken:
            return False
        self.taken[key, nonce] = seconds
        return True


@dataclass
class Gate:
    """A gateway with these modes on stand-ins: ``bench`` serves it, ``key`` makes keys for it."""

    modes: str = "key"
    routes: Mapping[str, str] = field(default_factory=dict)
    tokens: Tokens | None = None
    store: MemoryKeys = field(default_factory=MemoryKeys)
    nonces: MemoryNonces = field(default_factory=MemoryNonces)
    vault: Vault = field(default_factory=lambda: Vault(masters(new_master(secrets.token_hex(4)))))
    now: float = field(default_factory=time.time)
    monotonic: float = 1_000.0
    changes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cache = KeyCache(self.store, clock=lambda: self.monotonic)

    def bench(self) -> Bench:
        bench = Bench()
        modes = Modes(parsed(self.modes), {pattern: parsed(text) for pattern, text in self.routes.items()})
        bench.changes = {
            "access": Authentication(modes, self._proofs(), bench.metrics),
            "keyring": Keyring(self.store, self.vault, self.cache),
            **self.changes,
        }
        return bench

    def key(self, *scopes: str, tenant: str | None = "steppe", **more: Any) -> Issued:
        order = Order(scopes=frozenset(scopes), tenant=tenant, **{"name": "a test's", **more})
        issued = issue(order, self.vault, by="test", now=0)
        self.store.keys[issued.key.prefix] = issued.key
        return issued

    def signed(self, key: Issued, method: str, target: str, body: bytes = b"", **changes: Any) -> dict[str, str]:
        """The headers of a request signed with the key."""
        parts = {"timestamp": int(self.now), "nonce": secrets.token_urlsafe(16), **changes}
        return signing.headers(key.key.prefix, key.signing_secret, method, target, body, **parts)

    def _proofs(self) -> dict[Mode, Proof]:
        found: dict[Mode, Proof] = {
            Mode.HMAC: SignatureProof(self.cache, self.vault, self.nonces, clock=lambda: self.now),
            Mode.KEY: KeyProof(self.cache, self.vault, clock=lambda: self.now),
        }
        if self.tokens is not None:
            found[Mode.JWT] = TokenProof(self.tokens)
        return found


def bearer(issued: Issued) -> dict[str, str]:
    return {"Authorization": f"Bearer {issued.text}"}

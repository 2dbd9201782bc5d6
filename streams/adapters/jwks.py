"""The keys that tokens are verified with, with PyJWT: one named by the settings, or those an issuer publishes (JWKS).

Invariant: a key is for the one algorithm of its issuer; what an issuer publishes for another use counts as not there.
"""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Protocol

import jwt
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout
from jwt.algorithms import get_default_algorithms

from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
_SHORTEST_SECRET = 32  # bytes
_KINDS = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
_log = structlog.get_logger(__name__)


class KeyNotKnownError(Exception):
    """An issuer has no such key."""


class Keys(Protocol):
    """The keys of one issuer."""

    async def find(self, kid: str | None) -> Any:
        """The key of this id.

        Raises:
            KeyNotKnownError: There is none.
            TransientError: The keys are not known and cannot be fetched.
        """


class OneKey:
    """The ``Keys`` of an issuer whose one key is named by the settings.

    Raises:
        ValueError: It is no key for the algorithm, or a secret of fewer than 32 bytes.
    """

    def __init__(self, algorithm: Algorithm, text: str) -> None:
        if algorithm == "HS256" and len(text.encode()) < _SHORTEST_SECRET:
            raise ValueError(f"the secret has fewer than {_SHORTEST_SECRET} bytes")
        wanted = "secret: it looks like a key pair's" if algorithm == "HS256" else f"public key for {algorithm} in PEM"
        try:
            self._key = get_default_algorithms()[algorithm].prepare_key(text)
        except (jwt.InvalidKeyError, ValueError, TypeError):
            raise ValueError(f"the key is no {wanted}") from None
        if hasattr(self._key, "private_bytes"):  # who only verifies must not be able to sign
            raise ValueError(f"the key is no {wanted}")

    async def find(self, kid: str | None) -> Any:
        """See ``Keys.find``: it is the key for every id."""
        del kid
        return self._key


class KeySet:
    """The ``Keys`` an issuer publishes (JWKS).

    They are fetched again when they are old, or when an id is not among them, but never twice within ``pause``; while
    they cannot be fetched the last known ones stay.

    Args:
        fetch: Gets the document; OSError, TimeoutError or ValueError when it cannot.
        clock: Seconds that never go back.
        pause: Seconds between two attempts.
        lifetime: Seconds until they are old.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        fetch: Callable[[], Awaitable[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: float = 30.0,
        lifetime: float = 600.0,
    ) -> None:
        self._algorithm = algorithm
        self._fetch = fetch
        self._clock = clock
        self._pause = pause
        self._lifetime = lifetime
        self._keys: dict[str | None, Any] = {}
        self._tried_at: float | None = None
        self._fetched_at: float | None = None
        self._lock = asyncio.Lock()

    async def find(self, kid: str | None) -> Any:
        """See ``Keys.find``; without an id, the only key there is."""
        if self._wanting(kid):
            async with self._lock:
                if self._wanting(kid):
                    await self._refresh()
        found = self._keys.get(kid) if kid is not None else self._only()
        if found is not None:
            return found
        if self._fetched_at is None:
            raise TransientError("the issuer's keys cannot be fetched")
        raise KeyNotKnownError(kid)

    def _wanting(self, kid: str | None) -> bool:
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < self._pause:
            return False
        old = self._fetched_at is None or now - self._fetched_at >= self._lifetime
        return old or (kid is not None and kid not in self._keys)

    def _only(self) -> Any:
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            self._keys = _usable(await self._fetch(), self._algorithm)
        except (OSError, TimeoutError, ValueError) as error:
            _log.warning("keys of an issuer not fetched", reason=f"{type(error).__name__}: {error}")
            return
        self._fetched_at = self._clock()


async def fetched(url: str, *, longest: int = 1_048_576, timeout: float = 3.0) -> str:  # noqa: ASYNC109 - the client's own
    """The text at the URL: no redirects, at most so many bytes and seconds.

    Raises:
        OSError, TimeoutError, ValueError: It cannot be had.
    """
    text = bytearray()
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=timeout)) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != HTTPStatus.OK:
                raise ValueError(f"status {response.status}")
            async for part in response.content.iter_any():
                text += part
                if len(text) > longest:
                    raise ValueError(f"more than {longest} bytes")
    except ClientError as error:
        raise OSError(str(error) or type(error).__name__) from error
    return text.decode()


def _usable(text: str, algorithm: Algorithm) -> dict[str | None, Any]:
    """The keys of a set that are for this algorithm, by id."""
    document = json.loads(text)
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no key set")  # noqa: TRY004 - as for text that is no JSON
    return {entry.get("kid"): key for entry in entries if (key := _key(entry, algorithm)) is not None}


def _key(entry: Any, algorithm: Algorithm) -> Any:
    if not isinstance(entry, dict) or entry.get("kty") != _KINDS.get(algorithm):
        return None
    if entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        return jwt.PyJWK(entry, algorithm).key
    except jwt.PyJWTError:
        return None

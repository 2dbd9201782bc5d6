"""The API keys this process has seen lately, so that a request waits for the database once per key and not each time.

Invariant: nothing is told that was read more than ``VALID`` seconds ago: a revocation is heeded within that time, by
whichever process it was made, and while the database is away longer than that no key is known (and none accepted).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from streams.gateway.access import Caller
from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.keys import ApiKey, KeyStore

FRESH = 2.0  # seconds; older than that, it is read again while requests go on
VALID = 4.0  # seconds
PATIENCE = 1.5  # seconds a request waits for the database
_MOST = 10_000  # known keys, and as many prefixes that are nobody's
_V = TypeVar("_V")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """A key, the caller behind it, and when it was read."""

    key: ApiKey
    caller: Caller
    read_at: float


class KeyCache:
    """Finds keys by their prefix.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, store: KeyStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, Held] = {}
        self._unknown: dict[str, float] = {}  # prefix: when it was looked for
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def find(self, prefix: str) -> Held | None:
        """The key, or None if there is none.

        Raises:
            TransientError: The database does not answer, and what is remembered is too old.
        """
        held = self._known.get(prefix)
        if held is not None:
            age = self._clock() - held.read_at
            if age < VALID:
                if age >= FRESH:
                    self._ask(prefix)
                return held
        elif self._clock() - self._unknown.get(prefix, -VALID) < VALID:
            return None
        await asyncio.shield(self._ask(prefix))
        return self._answer(prefix)

    def forget(self, prefix: str) -> None:
        """Read the key again when it is next asked for."""
        self._known.pop(prefix, None)
        self._unknown.pop(prefix, None)

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    def _answer(self, prefix: str) -> Held | None:
        now = self._clock()
        held = self._known.get(prefix)
        if held is not None and now - held.read_at < VALID:
            return held
        if held is None and now - self._unknown.get(prefix, now - VALID) < VALID:
            return None
        raise TransientError("the API keys cannot be read")

    def _ask(self, prefix: str) -> asyncio.Future[None]:
        """Done when an attempt to read it has ended, however it ended."""
        answer = self._asked.get(prefix)
        if answer is None:
            answer = self._asked[prefix] = asyncio.get_running_loop().create_future()
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read())
        return answer

    async def _read(self) -> None:
        # One statement at a time, for all who ask meanwhile: strangers who try prefixes cost the database no more.
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                await self._read_all(list(asked))
            finally:
                for answer in asked.values():
                    answer.set_result(None)

    async def _read_all(self, prefixes: list[str]) -> None:
        started = self._clock()
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._store.find(prefixes)
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait are told that nothing was read
            _log.warning("API keys not read", reason=f"{type(error).__name__}: {error}")
            return
        for prefix in prefixes:
            self._keep(prefix, found.get(prefix), started)

    def _keep(self, prefix: str, key: ApiKey | None, at: float) -> None:
        self.forget(prefix)
        if key is None:
            _put(self._unknown, prefix, at)
        else:
            _put(self._known, prefix, Held(key, Caller(f"key:{prefix}", key.tenant, key.scopes), at))


def _put(memory: dict[str, _V], prefix: str, value: _V) -> None:
    if len(memory) >= _MOST:
        del memory[next(iter(memory))]  # the one that was read longest ago
    memory[prefix] = value

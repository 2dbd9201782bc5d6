"""An effect ledger in memory, and a provider that records effects and offers a look-up, but deduplicates nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streams.core.effects import Standing
from streams.job import Done, NotDone

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.ports import Claim, Intent


@dataclass
class Row:
    token: int
    digest: str
    replays: int
    until: float | None
    result: str | None = None


class MemoryLedger:
    """The ``EffectLedger`` port; ``pause`` is awaited on the way there and on the way back."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0, pause: Callable[[], Any] | None = None) -> None:
        self.rows: dict[str, Row] = {}
        self.fault: Exception | None = None
        self._clock = clock
        self._pause = pause
        self._tokens = 0

    async def begin(self, intent: Intent) -> Standing:
        return await self._step(lambda: self._begun(intent))

    async def arm(self, claim: Claim, seconds: float, replays: int) -> bool:
        return await self._step(lambda: self._armed(claim, seconds, replays))

    async def release(self, claim: Claim, seconds: float | None) -> bool:
        return await self._step(lambda: self._released(claim, seconds))

    async def finish(self, claim: Claim, result: str) -> bool:
        return await self._step(lambda: self._finished(claim, result))

    async def forget(self, age: float) -> None:
        raise AssertionError("no handler asks for this: see test_effects_sql")

    async def _step(self, step: Callable[[], Any]) -> Any:
        if self._pause is not None:
            await self._pause()
        if self.fault is not None:
            raise self.fault
        found = step()
        if self._pause is not None:
            await self._pause()
        return found

    def _begun(self, intent: Intent) -> Standing:
        self._tokens += 1
        row, until = self.rows.get(intent.key), self._until(intent.armed)
        if row is None:
            row = self.rows[intent.key] = Row(self._tokens, intent.digest, intent.replays, until)
            return self._standing(row, intent, new=True)
        if row.result is None and row.digest == intent.digest:
            row.token = self._tokens
        return self._standing(row, intent, new=False)

    def _standing(self, row: Row, intent: Intent, *, new: bool) -> Standing:
        return Standing(
            token=row.token,
            new=new,
            same=row.digest == intent.digest,
            finished=row.result is not None,
            result=row.result,
            unsettled=None if row.until is None else row.until - self._clock(),
            replays=row.replays,
        )

    def _armed(self, claim: Claim, seconds: float, replays: int) -> bool:
        row = self._held(claim)
        if row is None:
            return False
        row.until, row.replays = self._until(seconds), replays
        return True

    def _released(self, claim: Claim, seconds: float | None) -> bool:
        row = self._held(claim)
        if row is None:
            return False
        row.until = self._until(seconds)
        return True

    def _finished(self, claim: Claim, result: str) -> bool:
        row = self.rows[claim.key]
        if row.result is not None:
            return False
        row.result, row.until = result, None
        return row.token == claim.token

    def _held(self, claim: Claim) -> Row | None:
        row = self.rows[claim.key]
        return row if row.token == claim.token and row.result is None else None

    def _until(self, seconds: float | None) -> float | None:
        return None if seconds is None else self._clock() + seconds


@dataclass
class Provider:
    """Makes every effect it is asked for."""

    effects: list[str] = field(default_factory=list)
    lookups: int = 0

    def send(self, key: str) -> None:
        self.effects.append(key)

    async def reconcile(self, payload: Any, ctx: Any) -> Done | NotDone:
        self.lookups += 1
        return Done("found") if ctx.idempotency_key in self.effects else NotDone()

"""The handlers under test: they fail as the record's number says, and note every effect in the ledger.

Invariant: whether a record fails depends on its number and on what the ledger remembers, never on the process.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from streams.adapters.redis import transient
from streams.job import Done, NotDone

if TYPE_CHECKING:
    from streams.ports import Context
    from tests.chaos.client import LedgerClient

ATTEMPTS = 3
_SHARE = 100


class PlannedFailureError(Exception):
    """This record fails on purpose."""


def fails_for_ever(number: int) -> bool:
    """1 % of all records end as dead letters."""
    return number % _SHARE == 37


def fails_once(number: int) -> bool:
    """5 % of all records fail at their first run."""
    return number % 20 == 11


class Noting:
    """A handler whose effect is a line in the ledger.

    Args:
        once: Confirm before the effect, as handlers marked ``once`` may; plain ones count in Redis first, as handlers
            with limits do.
        delay: Seconds a run takes before its effect.
    """

    def __init__(self, ledger: LedgerClient, *, once: bool, delay: float) -> None:
        self._ledger = ledger
        self._once = once
        self._delay = delay

    async def __call__(self, payload: Any, ctx: Context) -> None:
        """Count or confirm, fail where it is planned, and note the effect."""
        if not self._once:
            with transient():
                await ctx.services.redis.incr(f"chaos:{ctx.key}")
        if self._delay:
            await asyncio.sleep(self._delay)
        await self._fail_as_planned(payload.number, ctx)
        if self._once:
            await ctx.confirm()
        await self._ledger.ask(**_note("effect", ctx), number=payload.number, idempotency_key=ctx.idempotency_key)

    async def look_up(self, payload: Any, ctx: Context) -> Done | NotDone:
        """What became of an effect whose answer nobody saw."""
        del payload
        return Done() if await self._ledger.ask(look_up=ctx.idempotency_key) else NotDone()

    async def _fail_as_planned(self, number: int, ctx: Context) -> None:
        if fails_for_ever(number):
            await self._ledger.ask(**_note("failure", ctx), number=number)
            raise PlannedFailureError("for ever")
        if fails_once(number) and await self._ledger.ask(**_note("failure", ctx), number=number) == 1:
            raise PlannedFailureError("once")


def _note(kind: str, ctx: Context) -> dict[str, Any]:
    return {"note": kind, "id": ctx.id, "key": ctx.key, "type": ctx.type, "worker": os.getpid(), "attempt": ctx.attempt}

"""One run's hold on its effect in the ledger: confirmed right before sending, released or finished afterwards.

Invariant: an end that is known is stored, if it takes until the ledger is back; a run that was fenced stores nothing
but the fact that the effect happened.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from streams.job import FencedError, TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.metrics import Metrics
    from streams.ports import Claim, EffectLedger

log = structlog.get_logger(__name__)

# Seconds an answer of the ledger may take. An older one says little: the process may have stood still meanwhile.
PATIENCE = 1.0
_TRIES = 5
_AGAIN = 0.5  # seconds between two tries to store an end while the ledger is away


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all runs of a group work with; ``owner`` names this process to people."""

    ledger: EffectLedger
    metrics: Metrics
    group: str
    owner: str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Fence:
    """See the module.

    Args:
        reach: Seconds from a confirmation until all that the run may send then shows at the provider.
        replays: How often the record was replayed.
        cancelled: Whether the job was cancelled.

    Attributes:
        unanswered: The run was cancelled while it waited for a confirmation.
        sent: The run may have sent something.
        lost: Another run has taken over.
    """

    def __init__(
        self, means: Means, claim: Claim, reach: float, replays: int, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self._means = means
        self._reach = reach
        self._replays = replays
        self._cancelled = cancelled
        self.claim = claim
        self.token = claim.token
        self.unanswered = False
        self.sent = False
        self.lost = False

    async def confirm(self) -> None:
        """Allow the run to send, as of now.

        Raises:
            FencedError: Another run has taken over, or the job was cancelled before anything was sent.
            TransientError: The ledger is away, or slow again and again.
        """
        if self._cancelled() and not self.sent:
            raise FencedError("the job was cancelled")
        for _ in range(_TRIES):
            asked = self._means.clock()
            if not await self._armed():
                raise self.fenced("confirm")
            if self._means.clock() - asked <= PATIENCE:
                self.sent = True
                return
        raise TransientError(f"the effect ledger took longer than {PATIENCE:g} s to answer, {_TRIES} times")

    async def _armed(self) -> bool:
        self.unanswered = False
        try:
            return await self._means.ledger.arm(self.claim, self._reach, self._replays)
        except asyncio.CancelledError:
            self.unanswered = True
            raise

    async def release(self, seconds: float | None) -> None:
        """The run has ended; what it sent shows within so many seconds, None: it sent nothing.

        Raises:
            FencedError: Another run has taken over.
        """
        if not await self._stored(lambda: self._means.ledger.release(self.claim, seconds)):
            raise self.fenced("outcome")

    async def finish(self, result: str) -> None:
        """The effect happened. That is true whoever holds the claim by now, so it is stored in any case."""
        if not await self._stored(lambda: self._means.ledger.finish(self.claim, result)):
            self.fenced("outcome")

    def fenced(self, at: str) -> FencedError:
        """Count, once, that another run has taken over."""
        if not self.lost:
            self._means.metrics.inc("keylane_effects_fenced_total", group=self._means.group, at=at)
        self.lost = True
        return FencedError(f"another run has taken over the effect {self.claim.key}")

    async def _stored(self, write: Callable[[], Awaitable[bool]]) -> bool:
        told = False
        while True:
            try:
                return await write()
            except TransientError as error:
                if not told:
                    log.warning("the end of a run waits for the effect ledger", reason=str(error))
                told = True
                await self._means.sleep(_AGAIN)

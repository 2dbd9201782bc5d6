"""What somebody has still to be told, bounded.

Invariant: at most ``room`` notices wait; whoever does not keep up is dropped, and told why, rather than told a part.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.live.notice import Interest, Notice

ROOM = 1_000
SLOW = "too slow: more waited than is kept; read on behind the last id"


class Subscription:
    """One subscriber's.

    Attributes:
        interest: What it wants to know of.
        dropped: Why it is told nothing more; None while it is.
    """

    __slots__ = ("_room", "_waiting", "_woken", "dropped", "interest")

    def __init__(self, interest: Interest, *, room: int = ROOM) -> None:
        self.interest = interest
        self.dropped: str | None = None
        self._room = room
        self._waiting: list[Notice] = []
        self._woken: asyncio.Future[None] | None = None

    def tell(self, notice: Notice) -> None:
        """Add a notice, or drop the subscriber."""
        if self.dropped is None and len(self._waiting) < self._room:
            self._waiting.append(notice)
            self._wake()
        else:
            self.drop(SLOW)

    def drop(self, reason: str) -> None:
        """Tell nothing more; what waits may still be taken."""
        if self.dropped is None:
            self.dropped = reason
            self._wake()

    async def take(self, wait: float) -> list[Notice]:
        """All that waits, in order; empty after so many seconds without anything, and once it was dropped."""
        if not self._waiting and self.dropped is None:
            await self._wait(wait)
        taken, self._waiting = self._waiting, []
        return taken

    async def _wait(self, seconds: float) -> None:
        self._woken = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._woken
        except TimeoutError:
            return
        finally:
            self._woken = None

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

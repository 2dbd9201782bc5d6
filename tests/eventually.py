"""Waits for a condition, with a deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], Awaitable[bool]], *, within: float = 10.0) -> None:
    """Ask every 10 ms until the condition holds.

    Raises:
        TimeoutError: It did not hold ``within`` so many seconds.
    """
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - what is asked lies in another process
            await asyncio.sleep(0.01)

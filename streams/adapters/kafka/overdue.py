"""Gives up what nobody acknowledges, with one timer for all records rather than one for each.

Invariant: whatever was added is done at the latest ``seconds`` after it was.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Entry = tuple[float, asyncio.Future[Any], Callable[[], Exception]]


class Overdue:
    """The futures of one event loop that wait for acknowledgements."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: deque[Entry] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: asyncio.Future[Any], error: Callable[[], Exception]) -> None:
        """Fail the future with this error, unless it is done in time."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        loop = asyncio.get_running_loop()
        at = loop.time() + self._seconds
        waiting.append((at, future, error))
        if self._timer is None:
            self._timer = loop.call_at(at, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, now = self._waiting, loop.time()
        while waiting and (waiting[0][0] <= now or waiting[0][1].done()):
            _, future, error = waiting.popleft()
            if not future.done():
                future.set_exception(error())
        self._timer = loop.call_at(waiting[0][0], self._expire, loop) if waiting else None

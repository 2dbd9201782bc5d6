"""Drives runs with as few tasks as there are runs that wait: one that ends in its first step needs none of its own.

A task (a carrier) takes run after run from the queue; when a run has to wait, the carrier stays with it and another
one goes on with the queue; afterwards it comes back for the next. So what a handler sees is ordinary: it runs inside
one task from its start to its end.
Invariant: a run's results are reported once, or it was cancelled; runs begin in the order they were given.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

from streams.engine.steps import Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streams.core.commands import Result, Run

    Ended = list[tuple[Run, Sequence[Result]]]

# Seconds a carrier may keep the loop; others (heartbeats, timers, the poll) want their turn.
_SLICE = 0.005


class Crew:
    """The carriers of one engine.

    Args:
        begin: Makes the first step of a run: its results if it ended with that, else the rest of it.
        ended: Told of runs that ended; what it gives to :meth:`take` meanwhile is run without another turn of the loop.
        broken: Told of an error that no handler made: a carrier has died of it.
        monotonic: The clock by which a carrier shares the loop.
    """

    def __init__(
        self,
        begin: Callable[[Run], Sequence[Result] | Rest[Sequence[Result]]],
        ended: Callable[[Ended], None],
        broken: Callable[[BaseException], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begin = begin
        self._ended = ended
        self._broken = broken
        self._monotonic = monotonic
        self._queue: deque[Run] = deque()
        self._done: Ended = []
        self._carriers: dict[asyncio.Task[None], None] = {}
        self._called = False  # a carrier is on its way to the queue
        self._returning = 0  # carriers that will look whether one is

    def __len__(self) -> int:
        """Carriers at work; those with a run that waits, mostly."""
        return len(self._carriers)

    def take(self, runs: Iterable[Run]) -> None:
        """Queue runs."""
        self._queue.extend(runs)
        self._call()

    async def cancel(self) -> None:
        """Forget what is queued, cancel what waits, and return when nothing runs any more."""
        self._queue.clear()
        if self._done:
            self._report()
            self._queue.clear()
        carriers = list(self._carriers)
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)
        self._done.clear()
        self._called = False

    def _call(self) -> None:
        if not (self._called or self._returning) and (self._queue or self._done):
            self._called = True
            carrier = asyncio.create_task(self._carry())
            self._carriers[carrier] = None
            carrier.add_done_callback(self._left)

    def _left(self, carrier: asyncio.Task[None]) -> None:
        self._carriers.pop(carrier)
        error = None if carrier.cancelled() else carrier.exception()
        if error is not None:
            self._broken(error)

    async def _carry(self) -> None:
        queue, done = self._queue, self._done
        until = self._monotonic() + _SLICE
        while queue or done:
            if not queue:
                self._report()
            elif self._monotonic() > until:
                await asyncio.sleep(0)
                until = self._monotonic() + _SLICE
            else:
                run = queue.popleft()
                context = copy_context()  # what a handler sets in its context is not the next one's
                found = context.run(self._begin, run)
                if isinstance(found, Rest):
                    self._called = False
                    self._call()
                    found = await found.within(context)
                    done.append((run, found))
                    if not await self._comes_back():
                        return
                    until = self._monotonic() + _SLICE
                else:
                    done.append((run, found))
        self._called = False

    async def _comes_back(self) -> bool:
        """Return together with all whose runs end in this turn of the loop; whether the queue is this one's now."""
        self._returning += 1
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:  # not of the run any more, whose results are there to be reported
            self._returning -= 1
            self._call()
            raise
        self._returning -= 1
        mine = not self._called
        self._called = True
        return mine

    def _report(self) -> None:
        ended = self._done.copy()
        self._done.clear()
        self._ended(ended)

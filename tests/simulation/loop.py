"""The event loop of one simulated process: virtual time, and one step at a time, when the scheduler says so.

A process that is paused is not stepped for a while; one that crashed is never stepped again.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context


class StepLoop(asyncio.AbstractEventLoop):
    """What asyncio's tasks, futures and timers need of a loop, and no more.

    Args:
        clock: The world's time in seconds.
        failed: Told of every exception that nobody awaited.
    """

    def __init__(self, clock: Callable[[], float], failed: Callable[[BaseException], None]) -> None:
        self.time = clock  # type: ignore[method-assign]
        self._failed = failed
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._buried = False

    # -- for the scheduler -----------------------------------------------------------------------------------------

    def due(self, now: float) -> bool:
        """Whether there is something to do; timers that are due get into the queue."""
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heapq.heappop(self._timers)[2])
        while self._ready and self._ready[0].cancelled():
            self._ready.popleft()
        return bool(self._ready)

    def next_timer(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def step(self) -> None:
        """Run what is first in the queue; this stays the running loop until another makes a step, or :func:`leave`."""
        if events._get_running_loop() is not self:
            events._set_running_loop(self)
        self._ready.popleft()._run()

    def bury(self) -> None:
        """Take the coroutines down as a killed process would: nothing they do in their ends reaches anybody."""
        self._buried = True
        events._set_running_loop(self)
        try:
            while self._tasks:
                self._close(self._tasks.pop())
        finally:
            events._set_running_loop(None)
        self._ready.clear()
        self._timers.clear()

    def _close(self, task: asyncio.Task[Any]) -> None:
        task._log_destroy_pending = False
        while not task.done():
            try:
                task.get_coro().close()
            except RuntimeError:  # it awaits something in its end: close it there as well
                continue
            return

    # -- for asyncio -----------------------------------------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._buried:
            self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._buried:
            self._count += 1
            heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is passed over when its time comes

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, **kwargs)
        if len(self._tasks) > 200:
            self._tasks = [kept for kept in self._tasks if not kept.done()]
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._buried:
            self._failed(context.get("exception") or RuntimeError(context["message"]))


def leave() -> None:
    """No loop is the running one."""
    events._set_running_loop(None)

"""Cancels runs that take longer than they may, with one timer per length of time instead of one per run.

Invariant: a task is cancelled only for a run that it is awaiting, and hears of it once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


class RunTimeoutError(Exception):
    """The run took longer than its handler's time-out."""


class Deadlines:
    """The deadlines of the runs of one loop."""

    def __init__(self) -> None:
        self._queues: dict[float, _Queue] = {}

    async def limit(self, seconds: float, work: Awaitable[T]) -> T:
        """What ``work`` returns.

        Raises:
            RunTimeoutError: It took longer than ``seconds``, and was cancelled.
        """
        queue = self._queues.get(seconds) or self._queues.setdefault(seconds, _Queue(seconds))
        deadline = queue.add()
        try:
            return await work
        except asyncio.CancelledError:
            if deadline.alone:
                raise RunTimeoutError(f"took longer than {seconds:g} s") from None
            raise
        finally:
            queue.remove(deadline)


class _Deadline:
    __slots__ = ("at", "cancelling", "expired", "task")

    def __init__(self, at: float, task: asyncio.Task[Any]) -> None:
        self.at = at
        self.task = task
        self.cancelling = task.cancelling()
        self.expired = False

    @property
    def alone(self) -> bool:
        """Whether the task was cancelled for it, and for no other reason since."""
        return self.expired and self.task.cancelling() <= self.cancelling + 1


class _Queue:
    """Deadlines that are as far away as each other, hence in the order they were set."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[_Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self) -> _Deadline:
        loop = asyncio.get_running_loop()
        task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # a carrier's, or the caller's
        deadline = _Deadline(loop.time() + self._seconds, task)
        self._waiting[deadline] = None
        if self._timer is None:
            self._timer = loop.call_at(deadline.at, self._expire, loop)
        return deadline

    def remove(self, deadline: _Deadline) -> None:
        if deadline.expired:
            deadline.task.uncancel()
        else:
            del self._waiting[deadline]

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        now, self._timer = loop.time(), None
        for deadline in list(self._waiting):
            if deadline.at > now:
                self._timer = loop.call_at(deadline.at, self._expire, loop)
                return
            del self._waiting[deadline]
            deadline.expired = True
            deadline.task.cancel()

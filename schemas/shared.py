"""One call for all who ask for the same thing at the same time.

Invariant: at most one call per key is under way; whoever asks meanwhile gets its result or its error.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

T = TypeVar("T")


class SharedCalls(Generic[T]):
    """Runs calls as tasks of their own, so that one asker's cancellation does not take the result from the others."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, call: Callable[[], Coroutine[None, None, T]]) -> T:
        """The result of the call for this key, joined if it is under way already.

        Raises:
            Exception: Whatever the call raises.
        """
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(call())
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: Hashable, task: asyncio.Task[T]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # seen, even if everybody who asked has left

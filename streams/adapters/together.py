"""Answers many who wait with one call: those that come while an answer is awaited share the next one.

Invariant: one call is under way at a time; the answers are those of its items, in their order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_I = TypeVar("_I")
_A = TypeVar("_A")


class Together(Generic[_I, _A]):
    """The calls of one kind.

    Args:
        call: Gives the answers to items, or raises for all of them.
        most: Items of one call.
    """

    def __init__(self, call: Callable[[Sequence[_I]], Awaitable[Sequence[_A]]], *, most: int) -> None:
        self._call = call
        self._most = most
        self._waiting: list[tuple[_I, asyncio.Future[_A]]] = []
        self._calls: asyncio.Task[None] | None = None

    async def ask(self, item: _I) -> _A:
        """The answer to the item; raises what its call raised."""
        answer: asyncio.Future[_A] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._calls is None:
            self._calls = asyncio.create_task(self._call_on())
        return await answer

    async def _call_on(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            # Whoever was given up meanwhile has an answer of its own.
            try:
                found = await self._call([item for item, _ in asked])
            except Exception as error:  # noqa: BLE001 - it is for those who wait
                for _, answer in asked:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                for (_, answer), each in zip(asked, found, strict=True):
                    if not answer.done():
                        answer.set_result(each)
        self._calls = None

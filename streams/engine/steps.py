"""Makes the first step of a coroutine by hand, and awaits the rest if there is any.

Invariant: what the coroutine sees is what it would see if it had been awaited from the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

T = TypeVar("T")


def begun(work: Coroutine[Any, Any, T]) -> T | Rest[T]:
    """What the coroutine returned, if it ended with its first step; else the :class:`Rest` of it."""
    try:
        return Rest(work, work.send(None))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class Rest(Generic[T]):
    """An awaitable.

    Args:
        work: A coroutine that stands at a yield.
        given: What it yielded there.
        context: The context its steps are made in; None for the caller's.
    """

    __slots__ = ("_context", "_given", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], given: Any, context: Context | None = None) -> None:
        self._work = work
        self._given = given
        self._context = context

    def within(self, context: Context) -> Rest[T]:
        """The same, with its steps made in a context."""
        return Rest(self._work, self._given, context)

    def __await__(self) -> Generator[Any, Any, T]:
        """Hand on what the coroutine waits for, and to it what it waited for."""
        work, given, context = self._work, self._given, self._context
        while True:
            try:
                answer = yield given
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - cancellation is the coroutine's to see
                step: Callable[[Any], Any] = work.throw
                value: Any = error
            else:
                step, value = work.send, answer
            try:
                given = step(value) if context is None else context.run(step, value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

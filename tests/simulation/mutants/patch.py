"""Puts a wrong function in the place of a right one, and counts how often it runs.

A name that is gone, or other arguments, end in an error at once: a bug that is not planted must not count as caught.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Patch:
    def __init__(self) -> None:
        self.executed = 0
        self._originals: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        """``make`` is given the original and returns what stands in its place."""
        original = inspect.getattr_static(owner, name)
        planted = make(original)
        expected, found = (list(inspect.signature(each).parameters) for each in (original, planted))
        if expected != found:
            raise TypeError(f"{owner.__name__}.{name} takes {expected}, what is planted takes {found}")

        @functools.wraps(planted)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.executed += 1
            return planted(*args, **kwargs)

        self._originals.append((owner, name, original))
        setattr(owner, name, counted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for owner, name, original in reversed(self._originals):
            setattr(owner, name, original)

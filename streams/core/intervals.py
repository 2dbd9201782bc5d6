"""A set of offsets kept as sorted, disjoint, half-open intervals.

Invariant: ``bounds`` is strictly ascending: ``[start, end, start, end, ...]``; no two intervals touch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Intervals:
    """Offsets as intervals: memory goes with the number of gaps, not with the number of offsets."""

    __slots__ = ("bounds",)

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self.bounds: list[int] = []
        for start, end in intervals:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Add the offsets ``start`` up to, but not including, ``end``."""
        if start >= end:
            return
        left, right = bisect_left(self.bounds, start), bisect_right(self.bounds, end)
        # An odd index falls inside an interval (or touches its end): that interval is merged.
        new = ([start] if left % 2 == 0 else []) + ([end] if right % 2 == 0 else [])
        self.bounds[left:right] = new

    def drop_below(self, offset: int) -> None:
        """Forget everything below ``offset``."""
        cut = bisect_right(self.bounds, offset)
        self.bounds[:cut] = [offset] if cut % 2 else []

    def __contains__(self, offset: int) -> bool:
        return bisect_right(self.bounds, offset) % 2 == 1

    def __bool__(self) -> bool:
        return bool(self.bounds)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.bounds[::2], self.bounds[1::2], strict=True)

"""Counts what a handler really did, and when: the same few instructions for every system.

Invariant: a record counts once, by its key's sequence; whatever comes again or out of its order is told apart.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_POINTS = 200  # of a curve


class Meter:
    """Counts up to ``count`` records and then calls ``done``.

    Args:
        aside: Entities whose records are not counted, since another part of the load is what is measured.
    """

    def __init__(self, count: int, done: Callable[[], None], *, aside: Collection[str] = ()) -> None:
        self.count = 0
        self.disordered = 0
        self._done = done
        self._total = count
        self._step = max(1, count // _POINTS)
        self._mark = 1
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._curve: list[tuple[float, float, int]] = []
        self._aside = frozenset(aside)
        self._latencies: list[float] = []
        self._begin = time.monotonic()

    def began(self, entity: str, sent_us: int) -> None:
        """A handler takes up a record that was published at ``sent_us``, or that is not to be timed (0)."""
        if sent_us and entity not in self._aside:
            self._latencies.append(time.time() - sent_us / 1e6)

    def saw(self, entity: str, sequence: int) -> None:
        """A handler did a record; sequences count from 0 within their key."""
        if entity in self._aside:
            return
        last = self._last.get(entity)
        if last is None:
            self._first[entity] = self._last[entity] = sequence
        else:
            if sequence != last + 1:
                self.disordered += 1
            if sequence > last:
                self._last[entity] = sequence
        self.count += 1
        if self.count >= self._mark:
            self._note()

    def _note(self) -> None:
        self._curve.append(self._point())
        self._mark = self.count + self._step
        if self.count >= self._total:
            self._done()
        else:
            self._mark = min(self._mark, self._total)

    def _point(self) -> tuple[float, float, int]:
        return time.monotonic(), time.process_time(), self.count

    def report(self) -> dict[str, Any]:
        """What was counted.

        ``keys`` are the first and the highest sequence by key, ``curve`` is the count over monotonic and CPU time.
        """
        return {
            "count": self.count,
            "disordered": self.disordered,
            "keys": {key: (self._first[key], last) for key, last in self._last.items()},
            "curve": [*self._curve, self._point()],
            "latencies": self._latencies,
            "begin": self._begin,
        }

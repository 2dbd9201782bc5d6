"""Counts what a handler really did, and when: the same few instructions for every system.

Invariant: a record counts once, by its key's sequence; whatever comes again or out of its order is told apart.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_POINTS = 200  # of a curve


class Meter:
    """Counts up to ``count`` records and then calls ``done``.

    Args:
        latencies: Whether to keep, per record, its key and the seconds from publication to the handler.
    """

    def __init__(self, count: int, done: Callable[[], None], *, latencies: bool = False) -> None:
        self.count = 0
        self.disordered = 0
        self._done = done
        self._total = count
        self._step = max(1, count // _POINTS)
        self._mark = self._step
        self._last: dict[str, int] = {}
        self._curve: list[tuple[float, int]] = []
        self._latencies: list[tuple[str, float]] | None = [] if latencies else None

    def saw(self, entity: str, sequence: int, sent_us: int = 0) -> None:
        """A handler did a record; sequences count from 0 within their key."""
        last = self._last.get(entity, -1)
        if sequence != last + 1:
            self.disordered += 1
        if sequence > last:
            self._last[entity] = sequence
        self.count += 1
        if self._latencies is not None:
            self._latencies.append((entity, time.time() - sent_us / 1e6))
        if self.count >= self._mark:
            self._note()

    def _note(self) -> None:
        self._curve.append((time.monotonic(), self.count))
        self._mark = self.count + self._step
        if self.count >= self._total:
            self._mark = self.count + self._total
            self._done()

    def report(self) -> dict[str, Any]:
        """What was counted: ``keys`` are sequences seen by key, ``curve`` the count over monotonic time."""
        return {
            "count": self.count,
            "disordered": self.disordered,
            "keys": self._last,
            "curve": [*self._curve, (time.monotonic(), self.count)],
            "latencies": self._latencies or [],
        }

"""The arithmetic of the benchmark: spreads over rounds, quantiles, slopes, and the steady part of a run.

Invariant: values of different rounds are only ever compared as ratios within one round.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Curve = Sequence[tuple[float, float, int]]
    """Monotonic time, CPU time and the count then; ascending."""

_FROM, _TO = 0.1, 0.95  # of the records: the steady part, without start-up and without the last stragglers


@dataclass(frozen=True, slots=True)
class Spread:
    """What a value was over the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value per round."""
        return cls(min(values), statistics.median(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours to theirs, round by round."""
    return Spread.of([one / other for one, other in zip(ours, theirs, strict=True)])


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How steeply y grows with x, by least squares."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return statistics.linear_regression(xs, ys).slope


def steady(curves: Sequence[Curve]) -> tuple[float, float]:
    """Records per second while all processes were in their steady part, and CPU seconds per record then.

    Both are 0 where there were too few records to tell.
    """
    active = [curve for curve in curves if curve[-1][2]]
    spans = [_span(curve) for curve in active]
    begin, end = max(begin for begin, _ in spans), min(end for _, end in spans)
    if begin >= end:  # the processes did not work at the same time: all there is to say is how long it took
        begin, end = min(begin for begin, _ in spans), max(end for _, end in spans)
    if begin >= end:
        return 0.0, 0.0
    done = sum(_at(curve, end, 2) - _at(curve, begin, 2) for curve in active)
    spent = sum(_at(curve, end, 1) - _at(curve, begin, 1) for curve in active)
    return done / (end - begin), spent / done


def _span(curve: Curve) -> tuple[float, float]:
    total = curve[-1][2]
    reached = [next(point[0] for point in curve if point[2] >= share * total) for share in (_FROM, _TO)]
    return reached[0], reached[1]


def _at(curve: Curve, moment: float, column: int) -> float:
    place = bisect_left(curve, moment, key=lambda point: point[0])
    if place == 0:
        return curve[0][column]
    if place == len(curve):
        return curve[-1][column]
    before, after = curve[place - 1], curve[place]
    share = (moment - before[0]) / (after[0] - before[0])
    return before[column] + (after[column] - before[column]) * share

"""What one run of one system came to, over all of its processes."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_FROM, _TO = 0.1, 0.95  # of the records: the steady part, without start-up and without the last stragglers


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Records per second in the steady part, and what was wrong.

    Attributes:
        count: Records handled, those handled twice counted twice.
        distinct: Records up to the highest of each key, each counted once; equal to ``count`` unless some came twice.
        disordered: Records that did not come right after the one before them in their key.
    """

    rate: float
    count: int
    distinct: int
    disordered: int

    @classmethod
    def of(cls, reports: Sequence[dict[str, Any]]) -> Result:
        """Put the reports of a system's processes together."""
        highest: dict[str, int] = {}
        for report in reports:
            for key, sequence in report["keys"].items():
                highest[key] = max(sequence, highest.get(key, -1))
        return cls(
            rate=_rate([report["curve"] for report in reports]),
            count=sum(report["count"] for report in reports),
            distinct=sum(highest.values()) + len(highest),
            disordered=sum(report["disordered"] for report in reports),
        )

    @property
    def line(self) -> str:
        """For people."""
        order = "order kept" if not self.disordered else f"{self.disordered} out of order"
        return f"{self.rate:,.0f}/s, {self.count:,} handled, {self.count - self.distinct:+,} twice or missing, {order}"


def _rate(curves: list[list[tuple[float, int]]]) -> float:
    """Records per second while all processes were in their steady part."""
    spans = [_steady(curve) for curve in curves if curve and curve[-1][1]]
    begin, end = max(begin for begin, _ in spans), min(end for _, end in spans)
    return sum(_at(curve, end) - _at(curve, begin) for curve in curves if curve) / (end - begin)


def _steady(curve: list[tuple[float, int]]) -> tuple[float, float]:
    total = curve[-1][1]
    reached = [next(at for at, count in curve if count >= share * total) for share in (_FROM, _TO)]
    return reached[0], reached[1]


def _at(curve: list[tuple[float, int]], moment: float) -> float:
    place = bisect_left(curve, (moment, 0))
    if place == 0:
        return curve[0][1]
    if place == len(curve):
        return curve[-1][1]
    (before, low), (after, high) = curve[place - 1], curve[place]
    return low + (high - low) * (moment - before) / (after - before)

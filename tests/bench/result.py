"""What one run of one system came to, over all of its processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.arithmetic import quantile, steady

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Records per second in the steady part, and what was wrong.

    Attributes:
        rate: Records per second in the steady part.
        cpu: CPU seconds per record of the system's processes then.
        count: Records handled, those handled twice counted twice.
        distinct: Records up to the highest of each key, each counted once; equal to ``count`` unless some came twice
            (it is lower) or were left out (it is higher).
        disordered: Records that did not come right after the one before them in their key, in the same process.
        p50: Seconds from publication to the handler, where they were asked for; else 0.
        p99: The same.
        first: Seconds from the start of the system to its first record.
    """

    rate: float
    cpu: float
    count: int
    distinct: int
    disordered: int
    p50: float = 0.0
    p99: float = 0.0
    first: float = 0.0

    @classmethod
    def of(cls, reports: Sequence[dict[str, Any]]) -> Result:
        """Put the reports of a system's processes together.

        Raises:
            ValueError: Nothing was handled.
        """
        if not any(report["count"] for report in reports):
            raise ValueError("no record was handled")
        rate, cpu = steady([report["curve"] for report in reports])
        latencies = [seconds for report in reports for seconds in report["latencies"]]
        lowest, highest = _bounds(reports)
        return cls(
            rate=rate,
            cpu=cpu,
            count=sum(report["count"] for report in reports),
            distinct=sum(highest.values()) + len(highest),
            disordered=sum(report["disordered"] for report in reports) + sum(map(bool, lowest.values())),
            p50=quantile(latencies, 0.5) if latencies else 0.0,
            p99=quantile(latencies, 0.99) if latencies else 0.0,
            first=min(report["curve"][0][0] - report["begin"] for report in reports),
        )

    @property
    def whole(self) -> bool:
        """Whether no record came twice or was left out."""
        return self.count == self.distinct

    @property
    def line(self) -> str:
        """For people."""
        order = "order kept" if not self.disordered else f"{self.disordered:,} out of order"
        found = f"{self.rate:,.0f}/s, {self.cpu * 1e6:.2f} µs CPU per record, {self.count:,} handled, "
        timed = f", P50 {self.p50 * 1e3:.1f} ms, P99 {self.p99 * 1e3:.1f} ms" if self.p99 else ""
        return f"{found}{self.count - self.distinct:+,} twice or missing, {order}{timed}"


def _bounds(reports: Sequence[dict[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """The lowest and the highest sequence seen of each key."""
    lowest: dict[str, int] = {}
    highest: dict[str, int] = {}
    for report in reports:
        for key, (first, last) in report["keys"].items():
            lowest[key] = min(first, lowest.get(key, first))
            highest[key] = max(last, highest.get(key, last))
    return lowest, highest

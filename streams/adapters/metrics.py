"""Prometheus: the metrics of the table, and their text form.

Invariant: what is exposed is exactly the table, the process's own numbers, and nothing global.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from streams.metrics import TABLE, Sample, Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streams.metrics import Metric

_CREATED = "_created"  # when a counter was made: for OpenMetrics, which has another text form
_KINDS: dict[str, type[Counter | Gauge]] = {"counter": Counter, "gauge": Gauge}


class _Histogram(Collector):
    """A histogram that takes many observations at once, which prometheus-client's own does not.

    Invariant: what it shows is what ``prometheus_client.Histogram`` would show after the same observations.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._series: dict[tuple[str, ...], _Series] = {}
        if not metric.labels:
            self.labels()

    def labels(self, *values: str) -> _Series:
        """The series of these label values."""
        return self._series.setdefault(values, _Series(self._metric.buckets))

    def add(self, values: Sequence[float]) -> None:
        """Add to the only series of a histogram without labels."""
        self.labels().add(values)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The series as they stand."""
        family = HistogramMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)
        for values, series in self._series.items():
            family.add_metric(values, series.cumulated(), series.sum)
        yield family


class _Series:
    """The counts of one combination of labels: per bucket, those above the last bound at the end."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.sum = 0.0
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def add(self, values: Sequence[float]) -> None:
        self.sum += sum(values)
        if len(values) == 1:
            self._counts[bisect_left(self._bounds, values[0])] += 1
            return
        ascending, below = sorted(values), 0
        for place, bound in enumerate(self._bounds):
            until = bisect_right(ascending, bound, below)
            self._counts[place] += until - below
            below = until
        self._counts[-1] += len(ascending) - below

    def cumulated(self) -> list[tuple[str, float]]:
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class PrometheusMetrics:
    """The ``Metrics`` port, with a registry of its own; ``content_type`` is that of ``text``."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, table: tuple[Metric, ...] = TABLE) -> None:
        self._registry = CollectorRegistry()
        self._metrics = {metric.name: self._made(metric) for metric in table}
        self._labels = {metric.name: metric.labels for metric in table}
        # Finding a labelled child takes a lock and validation in prometheus-client: done once per combination.
        self._children: dict[tuple[str, ...], Any] = {}
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def inc(self, name: str, /, amount: float = 1, **labels: str) -> None:
        """Add to a counter or gauge.

        Raises:
            KeyError: The name or a label is not in the table.
        """
        self._child(name, labels).inc(amount)

    def set(self, name: str, /, value: float, **labels: str) -> None:
        """Set a gauge; errors as ``inc``."""
        self._child(name, labels).set(value)

    def watch(self, name: str, value: Callable[[], float], /) -> None:
        """Let a gauge without labels show what ``value`` gives; errors as ``inc``."""
        self._child(name, {}).set_function(value)

    def observe(self, name: str, /, value: float, **labels: str) -> None:
        """Add an observation to a histogram; errors as ``inc``."""
        self._child(name, labels).add((value,))

    def observe_all(self, name: str, values: Sequence[float], /, **labels: str) -> None:
        """Add many observations to a histogram at once; errors as ``inc``."""
        self._child(name, labels).add(values)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def shown(self) -> list[Shown]:
        """All metrics as they stand."""
        return [
            Shown(
                family.name,
                family.type,
                family.documentation,
                [Sample(one.name, one.labels, one.value) for one in family.samples if not one.name.endswith(_CREATED)],
            )
            for family in self._registry.collect()
        ]

    def _child(self, name: str, labels: dict[str, str]) -> Any:
        values = [labels[label] for label in self._labels[name]]
        if len(values) != len(labels):
            raise KeyError(f"{name} has the labels {self._labels[name]}, not {tuple(labels)}")
        key = (name, *values)
        child = self._children.get(key)
        if child is None:
            metric = self._metrics[name]
            child = self._children[key] = metric.labels(*values) if values else metric
        return child

    def _made(self, metric: Metric) -> Any:
        if metric.kind == "histogram":
            found = _Histogram(metric)
            self._registry.register(found)
            return found
        return _KINDS[metric.kind](metric.name, metric.help, metric.labels, registry=self._registry)

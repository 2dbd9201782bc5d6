"""Prometheus: the metrics of the table, and their text form.

Invariant: what is exposed is exactly the table, the process's own numbers, and nothing global.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from streams.metrics import TABLE

if TYPE_CHECKING:
    from streams.metrics import Meter, Metric

_KINDS: dict[str, type[Counter | Gauge]] = {"counter": Counter, "gauge": Gauge}


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

    def observe(self, name: str, /, value: float, **labels: str) -> None:
        """Add an observation to a histogram; errors as ``inc``."""
        self._child(name, labels).observe(value)

    def counting(self, name: str, /, **labels: str) -> Meter:
        """What adds to this very counter; errors as ``inc``."""
        meter: Meter = self._child(name, labels).inc
        return meter

    def observing(self, name: str, /, **labels: str) -> Meter:
        """What adds observations to this very histogram; errors as ``inc``."""
        meter: Meter = self._child(name, labels).observe
        return meter

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

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
            return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=self._registry)
        return _KINDS[metric.kind](metric.name, metric.help, metric.labels, registry=self._registry)

"""``/metrics/json``, ``/metrics/queue-stats`` and ``/metrics/system``, also under ``/api/v1``: numbers as JSON.

Invariant: they are of all tenants together, so nobody who belongs to one sees them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from streams.door import RouteSpec
from streams.gateway.access import Scope, check_operator
from streams.gateway.figure_views import MetricsView, MetricView, QueueStats, SampleView, SystemView
from streams.gateway.jobs import json_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web
    from pydantic import BaseModel

    from streams.door import Door
    from streams.gateway.queues import Queues
    from streams.gateway.system import System
    from streams.metrics import Sample, Shown

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PREFIXES = ("", "/api/v1")
_REFUSED = {
    401: "The credentials are missing or not valid.",
    403: "The scope is missing, or the caller belongs to a tenant.",
}


class FigureRoutes:
    """The routes.

    Args:
        shown: Gives all metrics of this process.
    """

    def __init__(self, shown: Callable[[], Sequence[Shown]], queues: Queues, system: System) -> None:
        self._shown = shown
        self._queues = queues
        self._system = system

    def specs(self) -> tuple[RouteSpec, ...]:
        """The routes."""
        away = {503: "The broker is away."}
        return tuple(
            spec
            for prefix in _PREFIXES
            for spec in (
                _spec(f"{prefix}/metrics/json", "All metrics of this process", self.metrics, MetricsView),
                _spec(f"{prefix}/metrics/queue-stats", "Where each queue stands", self.queues, QueueStats, away),
                _spec(f"{prefix}/metrics/system", "What this process uses", self.system, SystemView),
            )
        )

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        """What ``/metrics`` shows."""
        return json_answer(MetricsView(metrics=[_metric(one) for one in self._shown()]))

    async def queues(self, _request: web.Request) -> web.StreamResponse:
        """What Kafka and the history know of the queues."""
        return json_answer(QueueStats(queues=await self._queues.figures()))

    async def system(self, _request: web.Request) -> web.StreamResponse:
        """This process."""
        return json_answer(self._system.view())


def _spec(
    path: str, summary: str, handler: Handler, answer: type[BaseModel], more: dict[int, str] | None = None
) -> RouteSpec:
    return RouteSpec(
        method="GET",
        path=path,
        summary=summary,
        scope=Scope.ADMIN,
        build=partial(_for_operators, handler),
        answer=answer,
        statuses={200: "The figures.", **_REFUSED, **(more or {})},
    )


def _for_operators(handler: Handler, _door: Door) -> Handler:
    async def answered(request: web.Request) -> web.StreamResponse:
        check_operator(request)
        return await handler(request)

    return answered


def _metric(shown: Shown) -> MetricView:
    return MetricView(
        name=shown.name, kind=shown.kind, help=shown.help, samples=[_sample(one) for one in shown.samples]
    )


def _sample(one: Sample) -> SampleView:
    # JSON has no infinities; a bucket's bound is a label, and text.
    value = one.value if math.isfinite(one.value) else None
    return SampleView(name=one.name, labels=dict(one.labels), value=value)

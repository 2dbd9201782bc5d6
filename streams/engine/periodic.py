"""Runs what is declared to happen every so many seconds; each piece of work sees to it that only one process does it.

Invariant: a failing run is logged and counted, and the next one comes at its time; its lag stays what it last was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.job import Periodic
    from streams.metrics import Metrics
    from streams.ports import Services

log = structlog.get_logger(__name__)


async def run_periodics(periodics: Sequence[Periodic], services: Services, metrics: Metrics) -> None:
    """Run all of them until cancelled."""
    async with asyncio.TaskGroup() as group:
        for periodic in periodics:
            group.create_task(_repeat(periodic, services, metrics))


async def _repeat(periodic: Periodic, services: Services, metrics: Metrics) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        started = loop.time()
        outcome = await _once(periodic, services, metrics)
        metrics.observe("keylane_periodic_duration_seconds", loop.time() - started, name=periodic.name)
        metrics.inc("keylane_periodic_runs_total", name=periodic.name, outcome=outcome)
        due = max(due + periodic.every, loop.time())
        await asyncio.sleep(due - loop.time())


async def _once(periodic: Periodic, services: Services, metrics: Metrics) -> str:
    try:
        lag = await periodic.run(services)
    except Exception as error:  # whatever it was, the next run comes at its time
        log.exception("periodic work failed", name=periodic.name, reason=str(error))
        return "failed"
    metrics.set("keylane_periodic_lag_seconds", lag or 0.0, name=periodic.name)
    return "done"

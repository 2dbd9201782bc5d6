"""Work that comes round: its outcome, how long it takes, and how late it is, are told."""

from __future__ import annotations

import asyncio
from typing import Any

from streams.adapters.metrics import PrometheusMetrics
from streams.engine.periodic import run_periodics
from streams.job import Periodic


async def told_of(*answers: float | Exception | None) -> PrometheusMetrics:
    """The metrics after runs that end so."""
    metrics, left, done = PrometheusMetrics(), list(answers), asyncio.Event()

    async def run(_services: Any) -> float | None:
        if not left:
            done.set()
            await asyncio.Event().wait()
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    running = asyncio.create_task(run_periodics([Periodic(name="sweep", every=0.001, run=run)], None, metrics))
    await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return metrics


def value(metrics: PrometheusMetrics, name: str, **labels: str) -> float | None:
    samples = [sample for shown in metrics.shown() for sample in shown.samples]
    return next((one.value for one in samples if one.name == name and one.labels == {"name": "sweep", **labels}), None)


async def test_runs_are_counted_by_outcome_and_measured() -> None:
    metrics = await told_of(None, ValueError("no"), None)
    assert value(metrics, "keylane_periodic_runs_total", outcome="done") == 2
    assert value(metrics, "keylane_periodic_runs_total", outcome="failed") == 1
    assert value(metrics, "keylane_periodic_duration_seconds_count") == 3


async def test_the_lag_is_that_of_the_last_run_that_could_tell() -> None:
    assert value(await told_of(3.0, 42.5), "keylane_periodic_lag_seconds") == 42.5
    assert value(await told_of(42.5, ValueError("no")), "keylane_periodic_lag_seconds") == 42.5
    assert value(await told_of(42.5, None), "keylane_periodic_lag_seconds") == 0
    assert value(await told_of(ValueError("no")), "keylane_periodic_lag_seconds") is None

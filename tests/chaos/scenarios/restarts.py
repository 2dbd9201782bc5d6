"""Planned ends: SIGTERM under load, and a rolling restart of static members."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from tests.chaos.run import Run, Size, small
from tests.chaos.scenario import Outcome, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.stage import Stage
    from tests.chaos.worker import Worker

BUSY = 0.2  # seconds a run takes: a worker that is ended has some under way
EXIT = 10.0  # seconds for the last commit and the end of the process itself
REBALANCES = "keylane_rebalances_total"


async def drain(stage: Stage, size: Size) -> Outcome:
    """End one worker after the other, and start it again; nothing may run twice."""
    slowest, busy = 0.0, 0
    async with Run(stage, "drain", size) as run:
        await run.warm()
        for number in range(size.times):
            worker, asked = run.workers[number % size.workers], time.time()
            slowest = max(slowest, await _restarted(worker))
            busy += run.made_by(worker.pids[-2], since=asked) > 0
            await asyncio.sleep(size.every)
        await run.enough()
        proof = await run.finish()
    late = [f"an end took {slowest:.1f} s"] if slowest > size.drain + EXIT else []
    notes = [f"ended within {slowest:.1f} s, {busy} times with runs under way"]
    return Outcome(f"SIGTERM under load, {size.times} times", proof, busy, late, notes)


async def rolling(stage: Stage, size: Size) -> Outcome:
    """Restart all workers, one after the other; none may lose its partitions."""
    moved = 0.0
    async with Run(stage, "rolling", size) as run:
        await run.warm()
        for worker in run.workers:
            others = [each for each in run.workers if each is not worker]
            before = await _rebalances(others)
            await _restarted(worker)
            # Its own first assignment is none.
            moved += await _rebalances(others) - before + await _rebalances([worker]) - 1
        await run.enough()
        proof = await run.finish()
    told, restarted = [f"{moved:.0f} rebalances"], all(len(worker.pids) > 1 for worker in run.workers)
    return Outcome(f"rolling restart of {size.workers} static members", proof, restarted, told if moved else [], told)


async def _restarted(worker: Worker) -> float:
    """End it in order, and start it again; the seconds its end took."""
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    code = await worker.ended(60)
    took = time.monotonic() - began
    assert code == 0, f"{worker.name} ended with {code}: see {worker.log}"
    worker.start()
    await worker.ready()
    return took


async def _rebalances(workers: Sequence[Worker]) -> float:
    return sum([(await worker.metrics())[REBALANCES] for worker in workers])


DRAIN = Scenario(
    name="drain",
    play=drain,
    long=Size(times=12, every=2.0, delay=BUSY),
    short=small(times=1, delay=BUSY),
)
ROLLING = Scenario(
    name="rolling",
    play=rolling,
    long=Size(static=4, session=30.0, delay=BUSY),
    short=small(static=2, session=30.0, delay=BUSY),
)

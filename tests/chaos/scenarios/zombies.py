"""Workers that stand still for twice the session time-out and wake up with work that is no longer theirs."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import TYPE_CHECKING

from tests.chaos.logs import Offsets
from tests.chaos.recovery import Recovery
from tests.chaos.run import Run, Size
from tests.chaos.scenario import Scenario

if TYPE_CHECKING:
    from tests.chaos.scenario import Outcome
    from tests.chaos.stage import Stage

FENCED = "keylane_fenced_records"


async def play(stage: Stage, size: Size) -> Outcome:
    """Freeze one worker at a time; the others take over, and it has to find its way back."""
    draw, fenced = random.Random(1), 0.0
    async with (
        Run(stage, "zombies", size, stall_timeout=8) as run,
        Offsets(stage.kafka.direct, run.config.queue) as offsets,
    ):
        recovery = Recovery(run)
        await run.warm()
        for _ in range(size.times):
            victim, began = draw.choice(run.workers), time.time()
            victim.signal(signal.SIGSTOP)
            await asyncio.sleep(2 * size.session)
            victim.signal(signal.SIGCONT)
            await recovery.watch(began, victim.pid)
            await asyncio.sleep(size.every)
            fenced += sum([(await worker.metrics())[FENCED] for worker in run.workers])
        outcome = await recovery.outcome(f"SIGSTOP of a worker for {2 * size.session:g} s, {size.times} times")
    return outcome.with_(
        problems=[f"{offsets.went_back} committed offsets went back"] if offsets.went_back else [],
        notes=[f"{fenced:.0f} records of zombies passed over"],
    )


SCENARIO = Scenario(
    name="zombies",
    play=play,
    long=Size(times=50, every=3.0, session=1.5, static=2, delay=0.05),
    short=Size(times=2, every=1.0, session=1.5, workers=2, keys=200, delay=0.05),
)

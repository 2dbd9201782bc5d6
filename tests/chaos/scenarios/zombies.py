"""Workers that stand still for twice the session time-out and wake up with work that is no longer theirs."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from typing import TYPE_CHECKING

import psutil

from tests.chaos.logs import Offsets
from tests.chaos.recovery import Recovery
from tests.chaos.run import Run, Size, small
from tests.chaos.scenario import Scenario

if TYPE_CHECKING:
    from tests.chaos.scenario import Outcome
    from tests.chaos.stage import Stage

BUSY = 0.2  # seconds a run takes: a worker that is stopped has some under way
_ENOUGH = 10  # stops, of which one must have come while an effect was made: then a fence is needed
MOVES, EFFECTS = "keylane_fenced_records", "keylane_effects_fenced_total"


async def play(stage: Stage, size: Size) -> Outcome:
    """Freeze one worker at a time; the others take over, and it has to find its way back."""
    draw, stood, moves, effects = random.Random(1), 0, 0.0, 0.0
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
            stood += victim.status() == psutil.STATUS_STOPPED
            victim.signal(signal.SIGCONT)
            await recovery.watch(began, victim.pid)
            await asyncio.sleep(size.every)
            told = [await worker.metrics() for worker in run.workers]
            moves += sum(each.get(MOVES, 0.0) for each in told)  # counted anew with each ownership
            effects = sum(each.get(EFFECTS, 0.0) for each in told)
        done = f"SIGSTOP of a worker for {2 * size.session:g} s, {size.times} times"
        outcome = await recovery.outcome(done, stood)
    problems = offsets.problems
    if size.times >= _ENOUGH and not moves + effects:
        problems.append("no fence was ever needed")
    return outcome.with_(problems, [f"fenced: {moves:.0f} moves and {effects:.0f} effects of zombies"])


SCENARIO = Scenario(
    name="zombies",
    play=play,
    long=Size(times=50, every=3.0, session=3.0, static=2, delay=BUSY),
    short=small(times=1, every=0.5, session=1.5, delay=BUSY),
)

"""``kill -9`` of a random worker, again and again, under load. Half of the workers are static members."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

from tests.chaos.run import Run, Size, small
from tests.chaos.scenario import Outcome, Scenario

if TYPE_CHECKING:
    from tests.chaos.stage import Stage


async def play(stage: Stage, size: Size) -> Outcome:
    """Kill, start again, and go on until all is published."""
    draw, count, busy = random.Random(1), 0, 0
    async with Run(stage, "kills", size) as run:
        await run.warm()
        while run.publishing():
            victim = draw.choice(run.workers)
            began = time.time()
            victim.kill()
            run.hit(began, victim.pid)
            busy += run.made_by(victim.pid) > 0
            victim.start()
            count += 1
            await asyncio.sleep(size.every)
        done = f"kill -9 of a worker, {count} times"
        return Outcome(done, await run.finish(), busy, notes=[f"{busy} of the killed had begun to work"])


SCENARIO = Scenario(
    name="kills",
    play=play,
    long=Size(jobs=100_000, static=2, session=3.0),
    short=small(jobs=500, static=1, every=3.0, session=1.5),
)

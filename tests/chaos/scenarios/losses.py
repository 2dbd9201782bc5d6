"""What the outside forgets: Redis its data, the group its offsets, the log its head."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from tests.chaos import mishaps, processes
from tests.chaos.recovery import Recovery
from tests.chaos.run import Run, Size, small
from tests.chaos.scenario import Outcome, Scenario

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

GAPS, JUMPS = "keylane_log_gap_records_total", "keylane_offset_jumps_total"
EXPIRED = 20  # records of each partition


async def redis(stage: Stage, size: Size) -> Outcome:
    """Redis is emptied, then killed; neither is a reason to run anything twice."""
    async with stage.own_redis("redis-loss") as (server, url), Run(stage, "redis-loss", size, redis_url=url) as run:
        recovery, gone = Recovery(run), 0
        await run.warm()
        for _ in range(size.times):
            gone += await emptied(url)
            await asyncio.sleep(size.every)
            processes.kill(server)
            await asyncio.sleep(size.length)
            await processes.started(server)
            await recovery.progressed()
            await asyncio.sleep(size.every)
        done = f"Redis FLUSHALL, and kill -9 for {size.length:g} s, {size.times} times each"
        return await recovery.outcome(done, gone)


async def emptied(url: str) -> int:
    """Empty a Redis; how many keys it had."""
    async with Redis.from_url(url) as client:
        count = int(await client.dbsize())
        await client.flushall()
    return count


async def offsets(stage: Stage, size: Size) -> Outcome:
    """The group's offsets are deleted while it stands: it has to begin at the oldest record, never at the newest."""
    async with Run(stage, "offsets", size) as run:
        began = time.time()
        await run.warm()
        await run.stand()
        run.hit(began)
        await mishaps.delete_offsets(stage.kafka.direct, run.config.queue)
        await run.go_on()
        await run.enough()
        told = await run.told(JUMPS)
        proof = await run.finish()
    tells = [f"the metric tells of {told:.0f} gaps"]
    return Outcome(
        "the group's offsets deleted", proof, proof.duplicates, tells if told < size.partitions else [], tells
    )


async def head(stage: Stage, size: Size) -> Outcome:
    """Records expire before the group has read them: it tells how many, and goes on behind them."""
    async with Run(stage, "log-head", size) as run:
        await run.warm()
        await run.settle()
        await run.stand()
        run.resume()
        gone = await run.expire(EXPIRED)
        await run.go_on()
        await run.enough()
        told = await run.told(GAPS)
        proof = await run.finish()
    tells = [f"the metric tells of {told:.0f} records"]
    return Outcome(f"{gone} unread records expired", proof, gone, tells if told != gone else [], tells)


REDIS = Scenario(
    name="redis-loss",
    play=redis,
    long=Size(times=10, every=2.0, length=2.0),
    short=small(times=1, every=0.5, length=0.5, workers=1),
)
OFFSETS = Scenario(name="offsets-deleted", play=offsets, long=Size(), short=small(workers=1))
HEAD = Scenario(name="log-head-expired", play=head, long=Size(), short=small(workers=1))

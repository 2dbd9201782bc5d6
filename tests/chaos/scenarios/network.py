"""The network between workers and one kind of server, broken by a proxy in four ways."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.chaos.logs import Offsets
from tests.chaos.recovery import Recovery
from tests.chaos.run import Run, Size, small
from tests.chaos.scenario import Outcome, Scenario

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.chaos.proxy import Proxy
    from tests.chaos.stage import Stage

    Fault = Callable[[Sequence[Proxy], float], Awaitable[None]]

LATENCY = 2.0  # seconds
RESETS = 0.5  # seconds between two
SECONDS = {"cut": 60.0, "latency": 60.0, "resets": 30.0, "half-open": 0.0}


async def cut(proxies: Sequence[Proxy], seconds: float) -> None:
    """Nothing passes."""
    for proxy in proxies:
        proxy.flowing.clear()
    await asyncio.sleep(seconds)
    for proxy in proxies:
        proxy.flowing.set()


async def latency(proxies: Sequence[Proxy], seconds: float) -> None:
    """Every answer is late."""
    for proxy in proxies:
        proxy.delay = LATENCY
    await asyncio.sleep(seconds)
    for proxy in proxies:
        proxy.delay = 0.0


async def resets(proxies: Sequence[Proxy], seconds: float) -> None:
    """Connections break off all the time."""
    for _ in range(int(seconds / RESETS)):
        for proxy in proxies:
            proxy.reset()
        await asyncio.sleep(RESETS)


async def half_open(proxies: Sequence[Proxy], seconds: float) -> None:
    """The servers' ends of the connections are gone, and the workers are not told; new ones are served at once."""
    del seconds  # it is over when the workers have found out
    for proxy in proxies:
        proxy.half_open()


FAULTS: dict[str, tuple[Fault, str]] = {
    "cut": (cut, "cut for {:g} s"),
    "latency": (latency, f"answers {LATENCY:g} s late for {{:g}} s"),
    "resets": (resets, f"connections reset every {RESETS:g} s for {{:g}} s"),
    "half-open": (half_open, "all connections half-open"),
}


async def play(server: str, stage: Stage, size: Size) -> Outcome:
    """One kind after the other on the way to this server, each for so many seconds times ``size.length``."""
    async with (
        stage.network(server) as network,
        Run(stage, f"{server}-network", size, **network.settings) as run,
        Offsets(stage.kafka.direct, run.config.queue) as offsets,
    ):
        recovery, hits = Recovery(run), []
        await run.warm()
        for kind, seconds in SECONDS.items():
            began = time.time()
            hits.append(sum(len(proxy.links) for proxy in network.proxies))
            await FAULTS[kind][0](network.proxies, seconds * size.length)
            # Records went on coming while Redis or PostgreSQL was away: what is behind runs first.
            await recovery.watch(began, fresh=server == "kafka")
            await asyncio.sleep(size.every)
        done = [FAULTS[kind][1].format(seconds * size.length) for kind, seconds in SECONDS.items()]
        outcome = await recovery.outcome(f"way to {server}: {', '.join(done)}", min(hits))
    return outcome.with_(offsets.problems, [])


def scenario(server: str) -> Scenario:
    """These faults on the way to this server."""
    return Scenario(
        name=f"{server}-network",
        play=partial(play, server),
        long=Size(length=1.0, every=5.0),
        short=small(length=0.1, every=0.5, workers=1),
    )


KAFKA, REDIS, SQL = scenario("kafka"), scenario("redis"), scenario("sql")

"""The network between workers and one kind of server, broken by a proxy in four ways."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.chaos.recovery import Recovery
from tests.chaos.run import Run, Size
from tests.chaos.scenario import Outcome, Scenario

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from tests.chaos.proxy import Proxy
    from tests.chaos.stage import Stage

    Fault = Callable[[Sequence[Proxy], Size], Awaitable[None]]

LATENCY = 2.0  # seconds
RESETS = 0.5  # seconds between two


async def cut(proxies: Sequence[Proxy], size: Size) -> None:
    """Nothing passes."""
    for proxy in proxies:
        proxy.flowing.clear()
    await asyncio.sleep(size.length)
    for proxy in proxies:
        proxy.flowing.set()


async def latency(proxies: Sequence[Proxy], size: Size) -> None:
    """Every answer is late."""
    for proxy in proxies:
        proxy.delay = LATENCY
    await asyncio.sleep(size.length)
    for proxy in proxies:
        proxy.delay = 0.0


async def resets(proxies: Sequence[Proxy], size: Size) -> None:
    """Connections break off all the time."""
    for _ in range(int(size.length / RESETS)):
        for proxy in proxies:
            proxy.reset()
        await asyncio.sleep(RESETS)


async def half_open(proxies: Sequence[Proxy], size: Size) -> None:
    """The servers' ends of the connections are gone, and the workers are not told."""
    for proxy in proxies:
        proxy.half_open()
    await asyncio.sleep(size.length)


FAULTS: dict[str, tuple[Fault, str]] = {
    "cut": (cut, "cut for {0.length:g} s"),
    "latency": (latency, f"answers {LATENCY:g} s late for {{0.length:g}} s"),
    "resets": (resets, f"connections reset every {RESETS:g} s for {{0.length:g}} s"),
    "half-open": (half_open, "connections half-open for {0.length:g} s"),
}


async def play(server: str, kinds: Sequence[str], stage: Stage, size: Size) -> Outcome:
    """One kind after the other on the way to this server."""
    async with (
        stage.network() as network,
        Run(stage, f"net-{server}-{'-'.join(kinds)}", size, **network.addresses) as run,
    ):
        recovery, proxies = Recovery(run), network.proxies[server]
        await run.warm()
        for kind in kinds:
            began = time.time()
            await FAULTS[kind][0](proxies, size)
            await recovery.watch(began)
            await asyncio.sleep(size.every)
        return await recovery.outcome(f"way to {server}: " + ", ".join(FAULTS[kind][1].format(size) for kind in kinds))


def scenario(server: str, *kinds: str, length: float) -> Scenario:
    """These faults on the way to this server."""
    return Scenario(
        name=f"{server}-{kinds[0]}" if len(kinds) == 1 else f"{server}-network",
        play=partial(play, server, kinds),
        long=Size(length=length, every=5.0),
        short=Size(length=4.0, every=0.5, workers=2, keys=200),
    )


KAFKA = (
    scenario("kafka", "cut", length=60.0),
    scenario("kafka", "latency", length=60.0),
    scenario("kafka", "resets", length=30.0),
    scenario("kafka", "half-open", length=30.0),
)
REDIS = scenario("redis", "cut", "latency", "resets", "half-open", length=20.0)
SQL = scenario("sql", "cut", "latency", "resets", "half-open", length=20.0)

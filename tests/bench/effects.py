"""``python -m tests.bench.effects``: what the effect ledger costs, on a real PostgreSQL and without a broker.

Runs of a 10 ms handler through ``OnceCalls``: plain, marked ``once``, and confirming; alternating, so that the ratios
of one round can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
import uuid
from typing import Any

import uvloop

from streams.adapters.effects import SqlEffects
from streams.adapters.metrics import PrometheusMetrics
from streams.adapters.sql import connect, migrate
from streams.engine.calls import Calls
from streams.engine.fence import Means
from streams.engine.once import OnceCalls
from streams.job import Once, Work
from streams.ports import Context
from tests.bench.broker import FOLDER, servers
from tests.simulation.broker import Rec


async def plain(payload: Any, ctx: Any) -> None:
    await asyncio.sleep(0.01)


async def confirming(payload: Any, ctx: Any) -> None:
    await ctx.confirm()
    await asyncio.sleep(0.01)


WAYS = {
    "plain": Work(handler=plain),
    "once": Work(handler=plain, once=Once()),
    "once, confirms": Work(handler=confirming, once=Once(confirms=True)),
}


def context(offset: int, name: str) -> Context:
    record = Rec("s", 0, offset, 0, b"t/a", b"v", (("ce_id", f"{name}-{offset}".encode()),))
    return Context(record, "bench", "x", 1, None)


async def measured(calls: OnceCalls, work: Work, count: int, lanes: int) -> str:
    call, numbers, run = calls.bind(work), itertools.count(), uuid.uuid4().hex
    took: list[float] = []

    async def lane() -> None:
        while (number := next(numbers)) < count:
            began = time.perf_counter()
            await call(None, context(number, run))
            took.append(time.perf_counter() - began)

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    seconds, used = time.perf_counter() - began, time.process_time() - used
    took.sort()
    return (
        f"{count / seconds:8,.0f} runs/s  {used / count * 1e6:4.0f} us CPU each  "
        f"P50 {took[count // 2] * 1e3:6.1f} ms  P99 {took[count * 99 // 100] * 1e3:6.1f} ms"
    )


async def main(url: str, options: argparse.Namespace) -> None:
    engine = connect(url, pool_size=4, ping=False)
    await migrate(engine)
    calls = OnceCalls(
        Calls(1), Means(ledger=SqlEffects(engine), metrics=PrometheusMetrics(), group="bench", owner="bench")
    )
    for lanes, count in ((options.lanes, options.count), (1, 200)):
        for _ in range(options.rounds):
            for name, work in WAYS.items():
                print(f"{lanes:5} at once  {name:15}{await measured(calls, work, count, lanes)}")
    await engine.dispose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.effects", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--lanes", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with servers(("postgres",), FOLDER / "effects") as settings:
        uvloop.run(main(settings.database_url.get_secret_value(), asked))

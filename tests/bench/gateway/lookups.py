"""How long it takes to look whether an Idempotency-Key was used before: what it adds to a request that has one."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from streams.adapters.idempotency import RedisRequests
from streams.adapters.redis import connect
from streams.ports import RequestState
from tests.bench.arithmetic import Spread, quantile
from tests.bench.page import Chapter, Target

if TYPE_CHECKING:
    from tests.bench.gateway.scenarios import Setting

AT_ONCE = (1, 8, 64)
_MEASURED = (1, 8)  # 64 that ask without a pause are more than Redis answers: they show what it can take
_COUNT = 10_000
_KEPT = '[202, "/api/v1/jobs/01a20b89-e9bf-7f16-beb1-17d46414eedb", "' + "x" * 300 + '"]'
_SECONDS = 600.0
_BOUND = 5.0  # milliseconds


def lookups(setting: Setting) -> Chapter:
    """Keys nobody has used and keys whose answer is kept, in turns."""
    found: dict[int, list[list[float]]] = {at_once: [] for at_once in AT_ONCE}
    for number in range(setting.rounds):
        for at_once, rounds in found.items():
            rounds.append(uvloop.run(_looked(str(setting.settings.redis_url), f"{number}-{at_once}", at_once)))
            print(f"look-up, {at_once} at once: P95 {_milliseconds(rounds[-1], 0.95):.2f} ms", file=sys.stderr)
    return Chapter(
        title="Looking an Idempotency-Key up",
        text=f"{_COUNT:,} look-ups in Redis, half of them of keys whose answer is kept, so many at once.",
        head=("at once", "P50 ms", "P95 ms", "P99 ms"),
        rows=[_row(at_once, rounds) for at_once, rounds in found.items()],
        targets=[
            Target(
                what=f"look-up of a key, P95, {at_once} at once",
                found=Spread.of([_milliseconds(each, 0.95) for each in found[at_once]]),
                bound=_BOUND,
                at_least=False,
                unit=" ms",
            )
            for at_once in _MEASURED
        ],
    )


async def _looked(url: str, run: str, at_once: int) -> list[float]:
    """The seconds of each look-up."""
    redis, taken = connect(url), []
    requests = RedisRequests(redis)

    async def looks(client: int) -> None:
        for number in range(_COUNT // at_once // 2):
            key = f"bench-{os.getpid()}-{run}-{client}-{number}"
            for expected in (RequestState.NEW, RequestState.REPLAYED):
                started = time.perf_counter()
                state = (await requests.begin(key, "print", str(expected), _SECONDS)).state
                taken.append(time.perf_counter() - started)
                if state is not expected:
                    raise RuntimeError(f"{key}: {state} instead of {expected}")
                if expected is RequestState.NEW:
                    await requests.finish(key, "print", str(expected), _KEPT, _SECONDS)

    await asyncio.gather(*map(looks, range(at_once)))
    await redis.aclose()
    return taken


def _milliseconds(seconds: list[float], share: float) -> float:
    return quantile(seconds, share) * 1000


def _row(at_once: int, rounds: list[list[float]]) -> list[str]:
    middle = sorted(rounds, key=lambda each: quantile(each, 0.95))[len(rounds) // 2]
    return [str(at_once), *(f"{_milliseconds(middle, share):.2f}" for share in (0.5, 0.95, 0.99))]

"""The watchdog tells where a group stands, also when nothing of it stands here any more."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from streams.core.group import Core, Limits
from streams.engine.family import Family
from streams.engine.watchdog import Watchdog
from streams.job import Group

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.ports import TopicPartition

FAMILY = Family(Group(name="g", source="s", tiers=(1.0,), partitions=1, concurrency=1, works={}))


class Told:
    """Notes what is told, and lets the test wait for it."""

    def __init__(self) -> None:
        self.lags: list[dict[str, int]] = []
        self.figures: Any = None
        self.seen = asyncio.Event()

    def lag(self, behind: dict[str, int]) -> None:
        self.lags.append(behind)

    def standing(self, found: Any, now: float) -> None:
        self.figures = found
        self.seen.set()


async def look(core: Core, ends: Callable[[], dict[TopicPartition, int]]) -> Told:
    told = Told()
    engine = SimpleNamespace(core=core, progress=0.0)
    consumer = SimpleNamespace(ends=ends)
    watching = asyncio.create_task(Watchdog(engine, FAMILY, consumer, None, told, lambda: 0.0, 0.04).run())
    await asyncio.wait_for(told.seen.wait(), 10)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    return told


def not_a_member() -> dict[TopicPartition, int]:
    raise AssertionError("a consumer that owns nothing has no ends to tell")


async def test_a_worker_whose_partitions_went_to_others_tells_that_nothing_stands_here() -> None:
    told = await look(Core((1.0,), Limits(concurrency=1)), not_a_member)
    assert told.lags[0] == {"s": 0, "s.g.retry.0": 0, "s.g.retry.1": 0}
    assert (told.figures.parked, told.figures.oldest) == (0, None)

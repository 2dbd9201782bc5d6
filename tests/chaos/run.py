"""One run on a stage: its own queue and ledger, its workers, its load, and what came of it.

Invariant: it ends when every acknowledged job has ended, or its patience has; the workers are drained before the
figures are taken, so that what would run twice later is seen.
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from streams.core.headers import dlt_topic, tier_topic
from streams.dev import ports
from tests.chaos import logs, mishaps
from tests.chaos.config import PUBLISHED, Config
from tests.chaos.processes import KEYLANE, Child
from tests.chaos.proof import ONCE, PLAIN, SLACK, Effects, Window, prove, published, unfinished
from tests.chaos.worker import Worker
from tests.eventually import eventually

if TYPE_CHECKING:
    from tests.chaos.proof import Proof, Row
    from tests.chaos.stage import Stage

_END = 60.0  # seconds
_LOOK = 0.1  # seconds
BUSY = 5.0  # seconds of slack where scenarios run side by side, and commits wait for the processor
_PUBLISHED = 900.0  # seconds the load may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of it.

    Attributes:
        jobs: Published at most; a scenario that has done enough stops the load.
        rate: Jobs per second.
        static: So many of the workers have a name that outlives a restart.
        session, drain: The session time-out, and how long runs may go on after SIGTERM, in seconds.
        times: How often the fault comes; ``every`` so many seconds, for ``length`` seconds.
        delay: Seconds each run takes before its effect.
        slack: Seconds an effect may be older than the fault that lets it run again.
        patience: Seconds without an effect after which what has not ended is lost.
    """

    jobs: int = 1_000_000
    rate: float = 300.0
    keys: int = 1_000
    partitions: int = 12
    workers: int = 4
    static: int = 0
    session: float = 6.0
    drain: float = 5.0
    times: int = 1
    every: float = 6.0
    length: float = 0.0
    delay: float = 0.0
    patience: float = 90.0
    slack: float = SLACK


def small(**changes: Any) -> Size:
    """A size for the short form."""
    return replace(Size(rate=50.0, keys=50, partitions=4, workers=2, drain=2.0, slack=BUSY), **changes)


class Run:
    """A run, by its name.

    Args:
        settings: Further settings of its workers, by their names in small letters.
    """

    def __init__(self, stage: Stage, name: str, size: Size, **settings: object) -> None:
        self.stage = stage
        self.size = size
        self.faults: list[Window] = []
        self.gone: mishaps.Gone = frozenset()
        self.folder = stage.folder / name
        self.folder.mkdir()
        self.config = Config(name, size.partitions, ports.any_free(), delay=size.delay)
        self.config.write(self.folder)
        self._environment = stage.environment(self.folder)
        self.effects = Effects(self.folder / "ledger.jsonl")
        self._ledger = self._child("tests.chaos.ledger", str(self.effects.path), str(self.config.ledger_port))
        self._load = self._child("tests.chaos.load", str(self.folder), str(size.jobs), str(size.rate), str(size.keys))
        self.workers = [self._worker(number, settings) for number in range(size.workers)]

    async def __aenter__(self) -> Self:
        """Make the topics, start the ledger and the workers."""
        topics = Child([*KEYLANE, "topics", "apply"], self._environment, self.folder / "topics.log")
        topics.start()
        self._ledger.start()
        try:
            assert await topics.ended(60) == 0, topics.log.read_text()
            await self.stage.serve_registry(self._environment)
            await self._ledger.said(b"ledger ready")
            for worker in self.workers:
                worker.start()
            await asyncio.gather(*(worker.ready() for worker in self.workers))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """End every process of the run."""
        for child in (*self.workers, self._load, self._ledger):
            child.kill()

    def begin(self) -> None:
        """Start the load."""
        self._load.start()

    async def warm(self) -> None:
        """Start the load and wait until two seconds of it have taken effect."""
        self._load.start()
        async with asyncio.timeout(self.size.patience):
            while len(self.effects.ids) < 2 * self.size.rate:
                await self._look()

    def publishing(self) -> bool:
        """Whether the load goes on."""
        return self._load.alive()

    async def enough(self) -> None:
        """Stop the load, once some of it has come behind the last fault."""
        await asyncio.sleep(1.0)
        self._load.signal(signal.SIGTERM)

    async def progress(self, *pids: int, fresh: bool) -> float:
        """Wait until jobs of both types take effect (in these workers); the seconds, or infinity.

        Args:
            fresh: Only those that are published from now on; what is behind runs before them.
        """
        since, newest = time.time(), max((job["number"] for job in self._published()), default=0) if fresh else 0
        place, missing = len(self.effects.rows), {PLAIN, ONCE}
        while time.time() < since + self.size.patience:
            await self._look()
            for row in self.effects.rows[place:]:
                if row["at"] >= since and row["number"] > newest and (not pids or row["worker"] in pids):
                    missing.discard(row["type"])
                if not missing:
                    return float(row["at"] - since)
            place = len(self.effects.rows)
        return math.inf

    def hit(self, began: float, *pids: int) -> None:
        """Note that a fault hit these workers (all, where none is named) from then until now."""
        self.faults.append(Window(began, time.time(), frozenset(pids) or None, self.size.slack))

    async def settle(self) -> None:
        """Halt the load until all that was published is committed."""
        self._load.signal(signal.SIGSTOP)

        async def settled() -> bool:
            return await self._behind() == 0

        await eventually(settled, within=self.size.patience)

    def resume(self) -> None:
        """Let the load go on."""
        self._load.signal(signal.SIGCONT)

    async def stand(self) -> None:
        """Drain all workers; the load goes on."""
        codes = await self._drained()
        assert not any(codes), f"the workers ended with {codes}: see {self.folder}"

    async def go_on(self) -> None:
        """Start them again."""
        for worker in self.workers:
            worker.start()
        await asyncio.gather(*(worker.ready() for worker in self.workers))

    async def expire(self, count: int) -> int:
        """Let so many records of each partition expire before the group has read them; how many that are."""
        source, group = f"jobs.{self.config.queue}", self.config.queue
        self.gone = await mishaps.expire(self.stage.kafka.direct, group, source, range(self.size.partitions), count)
        return len(self.gone)

    async def told(self, metric: str) -> float:
        """A metric of all workers."""
        return sum([(await worker.metrics()).get(metric, 0.0) for worker in self.workers])

    def made_by(self, pid: int, since: float = 0.0) -> int:
        """How many effects a worker's life had since then."""
        self.effects.refresh()
        return sum(row["worker"] == pid and row["at"] >= since for row in self.effects.rows)

    async def finish(self) -> Proof:
        """Wait until everything has ended, drain the workers and compare."""
        assert await self._load.ended(_PUBLISHED) == 0, self._load.log.read_text()[-2_000:]
        jobs = self._published()
        await self._all_ended(jobs)
        ended = [worker.name for worker in self.workers if not worker.alive()]
        codes = await self._drained()
        self.effects.refresh()
        behind = await self._behind()
        return prove(jobs, self.effects.rows, await self._dead(), self.faults, behind=behind, ended=ended, codes=codes)

    async def _all_ended(self, jobs: list[Row]) -> None:
        count, deadline, dead = -1, math.inf, await self._dead()
        while unfinished(jobs, self.effects.ids, dead) and time.monotonic() < deadline:
            if len(self.effects.rows) > count:
                count, deadline = len(self.effects.rows), time.monotonic() + self.size.patience
            await self._look()
            if not unfinished(jobs, self.effects.ids, {job["id"] for job in jobs}):
                dead = await self._dead()

    async def _drained(self) -> list[int]:
        """End all workers in order; their exit codes."""
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        return [await worker.ended(_END) for worker in self.workers]

    def _published(self) -> list[Row]:
        """What the load maker noted; what is gone from the log counts as published without an answer."""
        jobs = published(self.folder / PUBLISHED)
        return [job | {"offset": None} if (job["partition"], job["offset"]) in self.gone else job for job in jobs]

    async def _look(self) -> None:
        await asyncio.sleep(_LOOK)
        self.effects.refresh()

    async def _dead(self) -> set[str]:
        dlt = dlt_topic(f"jobs.{self.config.queue}", self.config.queue)
        return await logs.dead_ids(self.stage.kafka.direct, dlt, self.config.partitions)

    async def _behind(self) -> int:
        """Records that the group has not committed."""
        source, group = f"jobs.{self.config.queue}", self.config.queue
        levels = [source, *(tier_topic(source, group, tier) for tier in range(len(self.config.tiers) + 1))]
        return await logs.behind(self.stage.kafka.direct, group, levels, self.config.partitions)

    def _child(self, module: str, *arguments: str) -> Child:
        command = [sys.executable, "-m", module, *arguments]
        return Child(command, self._environment, self.folder / f"{module.rpartition('.')[2]}.log")

    def _worker(self, number: int, settings: dict[str, object]) -> Worker:
        static = {"instance_id": f"chaos-{number}"} if number < self.size.static else {}
        timeouts = {
            "session_timeout": self.size.session,
            "drain_timeout": self.size.drain,
            "rebalance_timeout": 2 * self.size.drain,
        }
        own = self.stage.environment(self.folder, **timeouts, **static, **settings)
        return Worker(number, self.config.queue, own, self.folder)

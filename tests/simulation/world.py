"""A seeded world: workers that run the real engine, a broker, publishers, operators, and faults.

Everything that happens is one step: of a worker's event loop, or of the world's own queue (requests that arrive,
answers, records that are published, faults). A seeded draw says whose step is next, and virtual time moves when there
is nothing to do. The same seed plays the same world, in any process.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from streams.core import commit_map, headers
from streams.core.group import Limits
from streams.engine.family import Family
from streams.job import Group
from tests.simulation.cluster import Cluster
from tests.simulation.faults import CHAOS, Faults
from tests.simulation.handlers import plans
from tests.simulation.loop import leave
from tests.simulation.mishaps import Mishaps
from tests.simulation.operators import Cancellers, Operators
from tests.simulation.promises import BrokenPromiseError, Promises
from tests.simulation.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

CALM = 400.0  # seconds of virtual time after the faults in which everything has to end
STEPS = 400_000  # the same in steps


class EngineDiedError(AssertionError):
    """An engine ended, or lost a task, with an error that is nobody's outcome."""


class World:
    """Args:
    faults: Names of the faults that may happen; None for all.
    records: Numbers of the records that are published; None for all.
    """

    def __init__(
        self, seed: int, faults: Collection[str] | None = None, records: Collection[int] | None = None
    ) -> None:
        self.seed = seed
        self.random = random.Random(f"{seed}/world")
        self.now = 1_000.0
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()  # what happened how often
        self.faults = Faults(seed, faults, self.note)
        self._draw_settings(self.random)
        self.family = Family(self.group)
        self.cluster = Cluster(self)
        self.promises = Promises(self)
        self.mishaps = Mishaps(self)
        self.cancellers = Cancellers(self)
        self.workers: list[Worker] = []
        self.failure: BaseException | None = None
        self._names = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._begin(records)

    def _draw_settings(self, r: random.Random) -> None:
        self.partitions = r.choice([1, 2, 3])
        self.tiers = ((0.4,), (0.4, 0.8), (0.3, 0.6, 1.2))[r.randrange(3)]
        self.group = Group(name="g", source="s", tiers=self.tiers, partitions=self.partitions, concurrency=1, works={})
        concurrency, records = r.choice([1, 3, 100]), r.choice([2, 5, 50])
        self.limits = Limits(
            concurrency=concurrency,
            records=records,
            bytes=r.choice([10**6, 2_000]),
            batch=r.choice([1, 1, 4]),
            linger=r.choice([0.0, 0.3]),
            leaving=records,
        )
        self.attempts = r.choice([1, 2, 3, len(self.tiers) + 1, 2 * len(self.tiers) + 2])
        self.in_place = r.choice([(), (0.2,)])
        self.tracking = r.choice([False, False, True])
        self.map_limit = r.choice([commit_map.LIMIT, commit_map.LIMIT, 36])  # characters
        keys = [f"t/{n}".encode() for n in range(r.choice([1, 2, 4, 8]))]
        self.plans = plans(self.seed, r.choice([10, 20, 30]), keys, self.partitions, CHAOS)

    def _begin(self, records: Collection[int] | None) -> None:
        self.wanted = {plan.number for plan in self.plans if records is None or plan.number in records}
        for number in sorted(self.wanted):
            self.later(self.now + self.plans[number].at, self.cluster.publish, self.plans[number])
        for fault in self.faults.timeline():
            self.later(self.now + fault.at, self.mishaps.strike, fault)
        for _ in range(self.random.choice([1, 2, 2, 3])):
            self.start_worker()
        self.later(self.now + 0.5, self._look)
        self.later(self.now + 1.0, Operators(self).look)

    def _look(self) -> None:
        self.cluster.coordinator.look()
        self.later(self.now + 0.5, self._look)

    # -- time and steps --------------------------------------------------------------------------------------------

    def later(self, at: float, action: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, action, args))

    def latency(self) -> float:
        return self.random.choice((0.001, 0.002, 0.005, 0.02))

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now - 1_000:7.3f} {text}")

    def step(self) -> None:
        """One step of somebody who has something to do; where nobody has, time goes by."""
        now = self.now
        while True:
            awake = [worker for worker in self.workers if worker.asleep_until <= now and worker.loop.due(now)]
            queued = bool(self._queue) and self._queue[0][0] <= now
            if awake or queued:
                break
            self._pass_time()
            now = self.now
        index = int(self.random.random() * (len(awake) + queued))
        if index == len(awake):
            _, _, action, args = heapq.heappop(self._queue)
            action(*args)
        else:
            self._step_of(awake[index])
        if self.failure is not None:
            raise self.failure

    def _step_of(self, worker: Worker) -> None:
        worker.loop.step()
        self.promises.check_memory(worker)
        if worker.steps_left is not None:
            self.mishaps.count_down(worker)

    def _pass_time(self) -> None:
        times = [at for at, *_ in self._queue[:1]]
        for worker in self.workers:
            timer = worker.loop.next_timer()
            if timer is not None:
                times.append(max(timer, worker.asleep_until))
        self.now = max(self.now, min(times))

    # -- from beginning to end -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play until the faults are over and everything has ended."""
        end = self.now + CHAOS
        while self.now < end:
            self.step()
        self.mishaps.calm()
        deadline, steps = self.now + CALM, 0
        while not self.finished():
            for _ in range(200):
                self.step()
            steps += 200
            if self.now > deadline or steps > STEPS:
                raise BrokenPromiseError(
                    f"no progress: {self.standing()}", min(self.promises.unfinished(), default=None)
                )

    def finished(self) -> bool:
        """Whether every record has ended, and the owners of all partitions know."""
        if self.promises.unfinished():
            return False
        owned = {p: lanes for worker in self.workers for p, lanes in worker.engine.core.partitions.items()}
        return len(owned) == self.partitions and all(
            not track.pending and not self.cluster.broker.read(p, shelf, track.position, 1)
            for p, lanes in owned.items()
            for shelf, track in lanes.tracks.items()
            if shelf != headers.DLT
        )

    def standing(self) -> str:
        broker = self.cluster.broker
        commits = [
            f"{place}: {broker.commits.get(place, (0,))[0]} of {end}" for place, end in broker.ends.items() if end
        ]
        return f"unfinished {sorted(self.promises.unfinished())}; committed {', '.join(commits)}"

    def bury(self) -> None:
        for worker in self.workers:
            worker.bury()
        leave()

    # -- workers ---------------------------------------------------------------------------------------------------

    def start_worker(self, instance: str | None = None) -> Worker:
        self._names += 1
        worker = Worker(self, f"w{self._names}", instance)
        self.workers.append(worker)
        self.note(f"{worker.name} starts")
        return worker

    def died(self, what: str, error: BaseException) -> None:
        """An exception that nobody awaited: the engine is not whole any more."""
        if self.failure is not None:
            return
        if isinstance(error, BrokenPromiseError):
            self.failure = error
            return
        self.failure = EngineDiedError(f"{what}: {error!r}")
        self.failure.__cause__ = error

"""What the timed faults do to a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core.track import SHELF_SOURCE
from tests.simulation.coordinator import SESSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.faults import Timed
    from tests.simulation.worker import Worker
    from tests.simulation.world import World

MOST_WORKERS = 4


class Mishaps:
    def __init__(self, world: World) -> None:
        self._world = world
        self._actions: dict[str, Callable[[Timed], None]] = {
            "crash": self._crash,
            "zombie": self._zombie,
            "restart": self._restart,
            "join": self._join,
            "expel": self._expel,
            "rebalance": lambda fault: world.cluster.coordinator.rebalance(),
            "disk-full": self._disk_full,
            "coordinator-away": self._coordinator_away,
            "head-expired": self._head_expired,
            "offsets-deleted": self._offsets_deleted,
            "commits-rolled-back": self._commits_rolled_back,
            "metadata-damaged": self._metadata_damaged,
            "cancel": lambda fault: world.cancellers.cancel(fault.draw),
        }

    def strike(self, fault: Timed) -> None:
        if self._world.faults.timed(fault):
            self._actions[fault.kind](fault)

    def _one(self, fault: Timed) -> Worker | None:
        workers = self._world.workers
        return workers[int(fault.draw * len(workers))] if workers else None

    # -- processes -------------------------------------------------------------------------------------------------

    def _crash(self, fault: Timed) -> None:
        worker = self._one(fault)
        if worker is not None and worker.steps_left is None:
            worker.steps_left = int(fault.draw * 1_000) % 40

    def count_down(self, worker: Worker) -> None:
        """It crashes between two of its steps."""
        assert worker.steps_left is not None
        worker.steps_left -= 1
        if worker.steps_left < 0 and worker in self._world.workers:
            self.kill(worker)

    def kill(self, worker: Worker) -> None:
        world = self._world
        world.note(f"{worker.name} crashes")
        world.workers.remove(worker)
        world.promises.died(worker)
        worker.bury()
        world.later(world.now + world.random.choice([0.0, 0.5, 5.0]), self._replace, worker.instance)

    def _replace(self, instance: str | None) -> None:
        if not self._world.workers or self._world.random.random() < 0.8:
            self._world.start_worker(instance)

    def _zombie(self, fault: Timed) -> None:
        worker = self._one(fault)
        if worker is not None:
            worker.asleep_until = self._world.now + fault.draw * 3 * SESSION
            self._world.note(f"{worker.name} stands still for {worker.asleep_until - self._world.now:.1f} s")

    def _restart(self, fault: Timed) -> None:
        worker = self._one(fault)
        if worker is not None and not worker.stopping:
            self._world.note(f"{worker.name} is told to stop")
            worker.stop()

    def left(self, worker: Worker) -> None:
        """It was told to stop, and has."""
        world = self._world
        world.note(f"{worker.name} has stopped")
        if worker not in world.workers:
            return
        world.workers.remove(worker)
        world.promises.died(worker)
        worker.alive = False
        world.later(world.now, self._replace, worker.instance)

    def _join(self, fault: Timed) -> None:
        if len(self._world.workers) < MOST_WORKERS:
            self._world.start_worker(f"instance of {fault.name}" if fault.draw < 0.3 else None)

    # -- the broker ------------------------------------------------------------------------------------------------

    def _expel(self, fault: Timed) -> None:
        members = list(self._world.cluster.coordinator.members.values())
        if members:
            self._world.cluster.coordinator.expel(members[int(fault.draw * len(members))])

    def _disk_full(self, fault: Timed) -> None:
        self._world.cluster.disk_full = True
        self._world.later(self._world.now + 6 * fault.draw, self._disk_free)

    def _disk_free(self) -> None:
        self._world.cluster.disk_full = False

    def _coordinator_away(self, fault: Timed) -> None:
        self._world.cluster.coordinator.away = True
        self._world.later(self._world.now + 6 * fault.draw, self._coordinator_back)

    def _coordinator_back(self) -> None:
        self._world.cluster.coordinator.away = False

    def _head_expired(self, fault: Timed) -> None:
        """Retention takes the oldest records of the source or a tier, read or not."""
        broker, promises, random = self._world.cluster.broker, self._world.promises, self._world.random
        place = (
            random.randrange(self._world.partitions),
            random.choice([SHELF_SOURCE, *range(1, len(self._world.tiers) + 1)]),
        )
        start = int(broker.ends[place] * fault.draw**0.3)
        promises.expire(place, start)
        broker.starts[place] = max(broker.starts[place], start)
        self._world.note(f"partition {place[0]} of shelf {place[1]} begins at {start} now")

    def _offsets_deleted(self, fault: Timed) -> None:
        self._forget()
        self._world.cluster.broker.commits = {}

    def _commits_rolled_back(self, fault: Timed) -> None:
        """A new coordinator does not know the last commits: what it hands out is stale."""
        self._forget()
        history = self._world.cluster.broker.history
        if history:
            self._world.cluster.broker.commits = dict(history[-1 - int(fault.draw * min(len(history), 10))])

    def _metadata_damaged(self, fault: Timed) -> None:
        self._forget()
        broker = self._world.cluster.broker
        for place, (offset, text) in list(broker.commits.items()):
            if self._world.random.random() < 0.5:
                broker.commits[place] = (offset, text[: int(len(text) * fault.draw)])

    def _forget(self) -> None:
        """Commits get lost: what they covered may run again, and is gone where retention took it since.

        Kafka keeps commits and generations in one log, so a coordinator that lost the one knows no member any more.
        """
        self._world.promises.forgotten = True
        for place, start in self._world.cluster.broker.starts.items():
            self._world.promises.expire(place, start)
        for member in list(self._world.cluster.coordinator.members.values()):
            self._world.cluster.coordinator.expel(member)

    def calm(self) -> None:
        """Faults stop: everybody wakes up, and somebody is there to work."""
        world = self._world
        world.note("calm")
        world.faults.calm = True
        world.cluster.disk_full = world.cluster.coordinator.away = False
        for worker in world.workers:
            worker.asleep_until = 0.0
            worker.steps_left = None
        if not world.workers:
            world.start_worker()

"""The broker as the clients see it: it stores, commits and hands out, late or not at all, and tells the promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.core import commit_map, headers
from streams.core.track import SHELF_SOURCE, parse_moved
from streams.job import TransientError
from streams.ports import OutOfRangeError, OwnershipLostError
from tests.simulation.broker import Broker
from tests.simulation.coordinator import Coordinator
from tests.simulation.handlers import number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.ports import Message, TopicPartition
    from tests.simulation.broker import Place
    from tests.simulation.handlers import Plan
    from tests.simulation.network import Wire
    from tests.simulation.world import World

    Wanted = Mapping[TopicPartition, int]
    Fetched = Callable[[Mapping[TopicPartition, Any] | OutOfRangeError], None]
    Commits = Mapping[Place, tuple[int, str]]

_NEARLY = 8  # characters: less room than another stretch needs
_MOST = 50  # records of one partition that a fetch brings


class Cluster:
    def __init__(self, world: World) -> None:
        self._world = world
        self.broker = Broker(world.partitions, world.family.topics)
        self.coordinator = Coordinator(self.broker, world.partitions, lambda: world.now, world.note)
        self.disk_full = False
        self._fetches: list[tuple[Wire, Wanted, Fetched]] = []  # they wait for records

    def publish(self, plan: Plan) -> None:
        gap = 2 if self._world.faults.strikes("gap", 0.2) else 0
        found = (("ce_type", plan.type.encode()),)
        plan.offset = self.broker.append(plan.partition, SHELF_SOURCE, plan.key, plan.value, found, gap)
        plan.published = True
        key = (plan.key or b"-").decode()
        self._world.note(
            f"#{plan.number} of {key} published at {plan.partition}@{plan.offset}, fails {plan.failures} x"
        )
        self.stored(plan.partition, SHELF_SOURCE)

    def stored(self, partition: int, shelf: int) -> None:
        """The last record of a log is new."""
        self._world.promises.stored(shelf, self.broker.logs[partition, shelf][-1])
        waiting, self._fetches = self._fetches, []
        for fetch in waiting:
            self._answer(*fetch)

    def write(self, worker: str, target: TopicPartition, messages: Sequence[Message]) -> list[int]:
        """Store a batch of moved records entirely, or not at all."""
        if self.disk_full:
            raise TransientError("the disk is full")
        return [self._write(worker, target.partition, self._world.family.shelves[target.topic], m) for m in messages]

    def _write(self, worker: str, partition: int, shelf: int, message: Message) -> int:
        gap = 1 if self._world.faults.strikes("gap", 0.05) else 0
        offset = self.broker.append(partition, shelf, message.key, message.value, message.headers, gap)
        moved = parse_moved(message.headers)
        level = headers.format_level(moved.level) if moved.level else "?"
        number = number_of(message.value or b"")
        self._world.note(f"{worker} moved #{number} to {level}, {partition}@{offset}, as {moved.mover}")
        self.stored(partition, shelf)
        return offset

    def commit(self, owner: tuple[str, int], member_id: str, generation: int, offsets: Commits) -> None:
        faults = self._world.faults
        if faults.strikes("commit-refused", 0.02):
            raise OwnershipLostError("a rebalance is in progress")
        part = faults.strikes("commit-partial", 0.03)
        stored = {place: at for place, at in offsets.items() if self._world.random.random() < 0.5} if part else offsets
        self.coordinator.commit(member_id, generation, stored)
        self._world.note(f"{owner[0]} committed {_shown(stored)}")
        self._world.counts["full maps"] += sum(len(text) > commit_map.LIMIT - _NEARLY for _, text in stored.values())
        self._world.promises.committed(owner, stored)
        if part:
            raise TransientError("stored in part")

    def fetch(self, wire: Wire, wanted: Wanted, fetched: Fetched) -> None:
        wire.tell(lambda: self._answer(wire, wanted, fetched))

    def _answer(self, wire: Wire, wanted: Wanted, fetched: Fetched) -> None:
        if wire.cut:
            return
        shelves = self._world.family.shelves
        starts = {tp: self.broker.starts[tp.partition, shelves[tp.topic]] for tp in wanted}
        if lost := {tp: at for tp, at in wanted.items() if at < starts[tp]}:
            self._world.later(self._world.now + self._world.latency(), wire.hand, fetched, OutOfRangeError(lost))
            return
        reads = {tp: self.broker.read(tp.partition, shelves[tp.topic], at, _MOST) for tp, at in wanted.items()}
        found = {tp: records for tp, records in reads.items() if records}
        if not found:
            self._fetches.append((wire, wanted, fetched))
            return
        late = self._world.random.uniform(0.2, 3.0) if self._world.faults.strikes("fetch-late", 0.03) else 0.0
        self._world.later(self._world.now + late + self._world.latency(), wire.hand, fetched, found)


def _shown(offsets: Commits) -> str:
    return " ".join(f"{p}/{_name(s)}@{at}" for (p, s), (at, _) in offsets.items())


def _name(shelf: int) -> str:
    return {SHELF_SOURCE: "source", headers.DLT: "dlt"}.get(shelf, f"retry.{shelf}")

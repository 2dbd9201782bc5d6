"""Operators who replay and discard dead letters, as the planner allows: of a held key the first one first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.handlers import number_of

if TYPE_CHECKING:
    from tests.simulation.broker import Rec
    from tests.simulation.world import World


class Operators:
    """They look now and then, also when the faults are over: until no dead letter is left."""

    def __init__(self, world: World) -> None:
        self._world = world

    def look(self) -> None:
        world = self._world
        found = world.cluster.broker.open_dead_letters(world.random.randrange(world.partitions))
        if found:
            self._act(world.random.choice(found))
        world.later(world.now + world.random.choice([0.5, 2.0]), self.look)

    def _act(self, record: Rec) -> None:
        world, number = self._world, number_of(record.value)
        world.counts["acts of operators"] += 1
        plan = world.plans[number]
        if world.random.random() < 0.3:
            world.note(f"operator discards #{number}, dlt {record.partition}@{record.offset}")
            world.promises.discarded.add(number)
            world.cluster.broker.discard(record)
        else:
            world.note(f"operator replays #{number}, dlt {record.partition}@{record.offset}")
            plan.failures, plan.broken = min(plan.failures, plan.failed + 1), False
            world.promises.replayed.add(number)
            world.cluster.broker.replay(record)
        world.cluster.stored(record.partition, 0)

"""Operators who replay and discard dead letters, as the planner allows: of a held key the first one first.

And those who cancel jobs: their orders reach each worker after a while, and one that starts knows them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.control import Order
from streams.core.track import SHELF_SOURCE
from tests.simulation.handlers import number_of

if TYPE_CHECKING:
    from tests.simulation.broker import Rec
    from tests.simulation.worker import Worker
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


class Cancellers:
    """``orders``: those given so far, with the numbers of their records."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.orders: list[tuple[Order, int]] = []

    def cancel(self, draw: float) -> None:
        """Cancel a record that was published, whatever has become of it."""
        world = self._world
        published = [plan for plan in world.plans if plan.published]
        if not published:
            return
        plan = published[int(draw * len(published))]
        tenant = "" if plan.key is None else plan.key.decode().partition("/")[0]
        source = world.family.topics[SHELF_SOURCE]
        order = Order(tenant, f"{source}/{plan.partition}/{plan.offset}", 0, int(world.now * 1000), "somebody")
        world.note(f"somebody cancels #{plan.number}")
        world.promises.cancelled.add(plan.number)
        self.orders.append((order, plan.number))
        for number, worker in enumerate(world.workers):
            world.later(world.now + draw * number, self._reach, worker, order, plan.number)

    def _reach(self, worker: Worker, order: Order, number: int) -> None:
        if worker.alive:
            worker.orders.give(order)
            self._world.promises.heard[worker].add(number)

    def tell(self, worker: Worker) -> None:
        """All that was ordered before it started."""
        for order, number in self.orders:
            worker.orders.give(order)
            self._world.promises.heard[worker].add(number)

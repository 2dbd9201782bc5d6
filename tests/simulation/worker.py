"""One simulated process: the real engine with all its parts, on an event loop and clients of its own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from streams.engine.calls import Calls
from streams.engine.cancelling import Orders
from streams.engine.engine import Engine, EngineOptions
from streams.engine.outbox import Outbox
from streams.engine.runner import Runner
from streams.engine.telemetry import Telemetry
from streams.engine.tracker import Tracker
from tests.simulation.clients import SimPublisher, SimReader, SimWriter
from tests.simulation.handlers import Handlers, NumberCodec
from tests.simulation.loop import StepLoop
from tests.simulation.member import SimConsumer
from tests.simulation.network import Wire
from tests.simulation.promises import STATUS

if TYPE_CHECKING:
    from collections import Counter

    from tests.simulation.world import World


class Counts:
    """The ``Metrics`` port: counts how often things happened, whatever the labels."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def inc(self, name: str, /, amount: float = 1, **labels: str) -> None:
        self._counts[labels.get("result", name)] += int(amount)

    def set(self, name: str, /, value: float, **labels: str) -> None: ...

    def observe(self, name: str, /, value: float, **labels: str) -> None: ...

    def observe_all(self, name: str, values: Any, /, **labels: str) -> None: ...

    def counting(self, name: str, /, **labels: str) -> Any:
        return _ignore

    def observing(self, name: str, /, **labels: str) -> Any:
        return _ignore


def _ignore(amount: float) -> None: ...


class Watched(Telemetry):
    """Also tells the promises of what was cancelled."""

    def __init__(self, worker: Worker, *args: Any) -> None:
        super().__init__(*args)
        self._worker = worker

    def cancelled(self, entry: Any, context: Any, *, ran: bool) -> None:
        super().cancelled(entry, context, ran=ran)
        self._worker.world.promises.withdrew(self._worker, entry.record)


class Worker:
    """``asleep_until``: a paused process is not stepped before; ``steps_left``: until it crashes."""

    def __init__(self, world: World, name: str, instance: str | None) -> None:
        self.world = world
        self.name = name
        self.instance = instance
        self.alive = True
        self.asleep_until = 0.0
        self.steps_left: int | None = None
        self.stopping = False
        self._wires: list[Wire] = []
        self._movers = 0
        self.loop = StepLoop(lambda: world.now, lambda error: world.died(name, error))
        self.consumer = SimConsumer(world, self)
        self.orders = Orders()
        world.cancellers.tell(self)
        self._outbox = Outbox(SimPublisher(world, self.wire()))
        self.engine = self._build(random.Random(f"{world.seed}/{name}"))
        self.main = self.loop.create_task(self._main())
        self.main.add_done_callback(self._ended)

    def _build(self, draws: random.Random) -> Engine:
        world = self.world
        group = Handlers(world, self).group()
        codec: Any = NumberCodec(world)
        status: Any = None
        tracker = Tracker(codec, self._outbox, status, topic=STATUS, queue="g", worker=self.name)
        tracking = tracker if world.tracking else None
        telemetry = Watched(self, "g", Counts(world.counts), self._outbox, tracking, world.family.dlt)
        services: Any = None
        runner = Runner(
            group, codec, services, Calls(1), telemetry, draws.random, "0", lambda: world.now, orders=self.orders
        )
        return Engine(
            world.family,
            world.tiers,
            world.limits,
            EngineOptions(
                commit_interval=draws.choice([0.2, 0.5, 1.0]),
                drain_timeout=draws.choice([0.2, 1.0, 2.0]),
                stall_timeout=8.0,
                aliases=False,
            ),
            consumer=self.consumer,
            reader=SimReader(world, self.wire()),
            writer=SimWriter(world, self),
            runner=runner,
            telemetry=telemetry,
            clock=lambda: world.now,
            monotonic=lambda: world.now,
            new_name=self._new_name,
        )

    async def _main(self) -> None:
        self._outbox.start()
        await self.engine.run()
        await self._outbox.stop()

    def _new_name(self) -> str:
        self._movers += 1
        return f"{self.name}.{self._movers}"

    def _ended(self, main: Any) -> None:
        if not main.cancelled() and main.exception() is not None:
            self.world.died(self.name, main.exception())
        elif self.alive:
            self.world.mishaps.left(self)

    def wire(self) -> Wire:
        """A connection of its own."""
        wire = Wire(self.world, self.loop)
        self._wires.append(wire)
        return wire

    @property
    def spell(self) -> object | None:
        """The membership it has; None once the group has expelled it."""
        return self.world.cluster.coordinator.members.get(self.consumer.member_id or "")

    @property
    def ownership(self) -> tuple[str, int]:
        """Whose it is what happens now."""
        return self.name, self.engine.epoch

    def owns(self, partition: int) -> bool:
        """Whether the group still counts the partition as its own."""
        member = self.world.cluster.coordinator.members.get(self.consumer.member_id or "")
        return self.alive and member is not None and partition in member.partitions

    def stop(self) -> None:
        """As SIGTERM does."""
        self.stopping = True
        self.engine.stop()

    def bury(self) -> None:
        """As SIGKILL does: what it sent is on its way, all else is gone."""
        self.alive = False
        for wire in self._wires:
            wire.cut = True
        self.loop.bury()

"""The orders to cancel jobs, followed from the start of their topic, and the runs that heed them.

Invariant: every order that stood in the topic when the process began is known before :meth:`Cancelling.known` returns;
a task is cancelled only for a run that it is awaiting, and hears of it once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog

from streams.control import KEPT, PARTITION, TOPIC, name_of, order_of
from streams.job import Cancelled, TransientError
from streams.ports import OutOfRangeError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streams.control import Order
    from streams.ports import Context, LogFollower, LogReader, Record

log = structlog.get_logger(__name__)

_AGAIN = 0.5  # seconds between tries while the cluster is away
_LOOK = 30.0  # seconds between looks for a topic that does not exist yet
_PLACE = TopicPartition(TOPIC, PARTITION)


class Orders:
    """What is to be cancelled; ``known`` by name, the oldest first. Nothing where there are no jobs."""

    def __init__(self) -> None:
        self.known: dict[str, Order] = {}
        self._running: dict[_Run, None] = {}

    def hold(self, context: Context) -> bool:
        """Whether the job of this run is to be cancelled."""
        return self._meant(self.known.get(name_of(context.tenant, context.id)), context)

    async def heed(self, context: Context, work: Awaitable[Any]) -> Any:
        """What ``work`` returns, or ``Cancelled`` if an order comes first and stops it."""
        run = _Run(context, asyncio.current_task())  # type: ignore[arg-type]  # there is one
        self._running[run] = None
        try:
            return await work
        except asyncio.CancelledError:
            if run.stopped_alone:
                return Cancelled()
            raise
        except Exception:
            if run.stopped:
                return Cancelled()
            raise
        finally:
            del self._running[run]
            if run.stopped:
                run.task.uncancel()

    def give(self, order: Order) -> None:
        """Take note of an order, and stop the run it is for."""
        self.known.pop(order.name, None)
        self.known[order.name] = order
        for run in self._running:
            if not run.stopped and order.name == run.name and self._meant(order, run.context):
                run.stopped = True
                run.task.cancel()

    def forget(self, before: float) -> None:
        """Drop orders given before this time, in seconds since the epoch."""
        while self.known and (oldest := next(iter(self.known.values()))).at < before * 1000:
            del self.known[oldest.name]

    @staticmethod
    def _meant(order: Order | None, context: Context) -> bool:
        return order is not None and order.replays == context.replays


class _Run:
    __slots__ = ("cancelling", "context", "stopped", "task")

    def __init__(self, context: Context, task: asyncio.Task[Any]) -> None:
        self.context = context
        self.task = task
        self.cancelling = task.cancelling()
        self.stopped = False

    @property
    def name(self) -> str:
        return name_of(self.context.tenant, self.context.id)

    @property
    def stopped_alone(self) -> bool:
        """Whether the task was cancelled for the order, and for no other reason since."""
        return self.stopped and self.task.cancelling() <= self.cancelling + 1


class Cancelling:
    """Keeps ``orders`` as the topic has them.

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(
        self, orders: Orders, follower: LogFollower, reader: LogReader, clock: Callable[[], float] = time.time
    ) -> None:
        self._orders = orders
        self._follower = follower
        self._reader = reader
        self._clock = clock
        self._position: int | None = None
        self._known = asyncio.Event()

    async def known(self) -> None:
        """Wait until everything that stood in the topic is known."""
        await self._known.wait()

    def stop(self) -> None:
        """Let whoever waits in :meth:`known` go on: it stops, too."""
        self._known.set()

    async def run(self) -> None:
        """Follow the topic; ends only by being cancelled."""
        while True:
            try:
                await self._follow()
            except OutOfRangeError:
                self._position = None  # made anew, or cut off: read from its start
            except TransientError as error:
                log.warning("orders to cancel jobs cannot be read for now", reason=str(error))
                await asyncio.sleep(_AGAIN)

    async def _follow(self) -> None:
        if self._position is None and not await self._read():
            log.warning("no job can be cancelled before its topic exists: run `keylane topics apply`", topic=TOPIC)
            self._known.set()
            await asyncio.sleep(_LOOK)
            return
        self._known.set()
        async for records in self._follower.follow({_PLACE: self._position or 0}):
            self._take(records)

    async def _read(self) -> bool:
        """Read what there is; False where the topic does not exist."""
        end = (await self._reader.ends([TOPIC])).get(_PLACE)
        if end is None:
            return False
        start = (await self._reader.starts([TOPIC]))[_PLACE]
        async for records in self._reader.read({_PLACE: start}, {_PLACE: end}):
            self._take(records)
        self._position = end
        return True

    def _take(self, records: Sequence[Record]) -> None:
        for record in records:
            order = order_of(record.value)
            if order is not None:
                self._orders.give(order)
            self._position = record.offset + 1
        self._orders.forget(self._clock() - KEPT)

"""A world for handlers marked ``once``: one record, several owners that run it, and a provider that repeats gladly.

The real ``OnceCalls`` over a ledger in memory. A seeded scheduler says who makes the next step; whoever is not asked
stands still, as a stopped process does. Owners die, the ledger's answers get lost, requests arrive late or never, and
look-ups fail. Promise: the effect happens once for each time somebody was told to send it, whatever the schedule; and
once everything heals, the record ends.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from streams.engine.deadlines import RunTimeoutError
from streams.engine.fence import PATIENCE, Means
from streams.engine.once import OnceCalls
from streams.job import Done, NotDone, Once, OutcomeUnknownError, TransientError, Unknown, Work
from streams.ports import Context
from tests.effect_doubles import MemoryLedger
from tests.simulation.broker import Rec

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

SETTLE, TIMEOUT = 2.0, 10.0
# Of a step, a start, a death, a standstill, a short and a long time passing.
_WEIGHTS = (60, 6, 2, 5, 15, 8)


class BrokenPromiseError(AssertionError):
    """The world ended in a way that was promised not to happen."""


class _Pause:
    """One turn of the scheduler."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class _NoMetrics:
    def inc(self, name: str, /, amount: float = 1, **labels: str) -> None: ...


class _Owner:
    """A process that runs the record; ``until`` is when its handler has overrun, None while it is not in there."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.until: float | None = None
        self.lost = False
        self.asleep_until = 0.0
        self.behind = False  # the record was done before it started
        self.run: Coroutine[Any, Any, Any] | None = None


class World:
    """See the module."""

    def __init__(self, seed: int, *, asks: bool, confirms: bool) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.effects = 0
        self.calm = False
        self._forgotten = False
        self.ended: list[Any] = []
        self.story: list[str] = []
        self._on_the_way: list[tuple[float, _Owner]] = []
        self._owners: list[_Owner] = []
        self._current: _Owner | None = None
        self._confirms = confirms
        ledger = _LossyLedger(self)
        means = Means(
            ledger=ledger,
            metrics=_NoMetrics(),
            group="g",
            owner="x",
            clock=lambda: self.now,
            sleep=lambda seconds: self.pause(),
        )
        once = Once(reconcile=self._reconcile if asks else None, settle=SETTLE, confirms=confirms)
        self._work = Work(handler=self._handle, once=once, timeout=TIMEOUT)
        self._call = OnceCalls(self, means).bind(self._work)

    # -- what the code under test is given -------------------------------------------------------------------------

    def bind(self, work: Work) -> Any:
        """Stands for ``Calls``; the scheduler makes what overruns fail."""

        async def call(payload: Any, context: Any) -> Any:
            owner = self._running
            owner.until = self.now + TIMEOUT
            try:
                return await work.handler(payload, context)
            finally:
                owner.until = None

        return call

    async def pause(self) -> None:
        await _Pause()

    async def _handle(self, payload: Any, ctx: Any) -> Any:
        owner = self._running
        if self._confirms:
            await self._before_confirming()
            await ctx.confirm()
        self._send(owner)
        await self.pause()
        if owner.lost or (not self.calm and self.random.random() < 0.4):
            self._settle(owner)
            raise ConnectionResetError("no answer")
        self._arrive(owner)
        return Done("sent")

    async def _before_confirming(self) -> None:
        await self.pause()
        if not self.calm and self.random.random() < 0.2:
            raise self.random.choice([ValueError("not yet"), TransientError("Redis is away")])

    async def _reconcile(self, payload: Any, ctx: Any) -> Any:
        await self.pause()
        found = self.effects > 0
        await self.pause()
        if not self.calm and self.random.random() < 0.2:
            return Unknown("pending")
        return Done("found") if found else NotDone()

    # -- the provider ----------------------------------------------------------------------------------------------

    def _send(self, owner: _Owner) -> None:
        """A request leaves; it arrives within the settling time after the end of its run, or is lost."""
        owner.lost = not self.calm and self.random.random() < 0.2
        self.tell(owner, "sends, and the request is lost" if owner.lost else "sends")
        if not owner.lost:
            latest = max(owner.until or 0.0, self.now) + SETTLE
            self._on_the_way.append((self.random.uniform(self.now, latest), owner))

    def _settle(self, owner: _Owner) -> None:
        """Its run has ended: what it sent arrives within the settling time."""
        self._on_the_way = [
            (min(at, self.random.uniform(self.now, self.now + SETTLE)) if sender is owner else at, sender)
            for at, sender in self._on_the_way
        ]

    def _arrive(self, owner: _Owner) -> None:
        """The answer is there, so what was sent has arrived by now."""
        still = [each for each in self._on_the_way if each[1] is not owner]
        if len(still) < len(self._on_the_way):
            self._on_the_way = still
            self._happen(owner)

    def _happen(self, owner: _Owner) -> None:
        self.effects += 1
        self.tell(owner, "its effect happens")

    # -- the schedule ----------------------------------------------------------------------------------------------

    def play(self, steps: int) -> None:
        """Random steps, then calm until the record has ended."""
        deeds = [self._step, self._start, self._die, self._stop, self._wait, self._wait_long]
        for _ in range(steps):
            self.random.choices(deeds, _WEIGHTS)[0]()
            self._check()
        self.calm = True
        while self._owners:
            self._die()
        for _ in range(400):
            if not self._owners:
                if self._done:
                    return
                self._start()
            self._step()
            self._pass(0.05)
            self._check()
        raise self._broken("the record does not end")

    def _check(self) -> None:
        if self.effects > 1:
            raise self._broken("the effect happened twice")
        if any(isinstance(outcome, Done) for outcome in self.ended) and not self.effects:
            raise self._broken("done without an effect")
        if self._forgotten:
            raise self._broken("what was done is not known any more")

    def _broken(self, what: str) -> BrokenPromiseError:
        return BrokenPromiseError("\n".join([what, *self.story[-60:]]))

    @property
    def _done(self) -> bool:
        """Whether the last run was the end of the record."""
        last = self.ended[-1] if self.ended else None
        return isinstance(last, Done) or (isinstance(last, OutcomeUnknownError) and last.final)

    @property
    def _running(self) -> _Owner:
        assert self._current is not None
        return self._current

    def _start(self) -> None:
        if len(self._owners) >= 3:
            return
        owner = _Owner(len(self.story))
        record = Rec("s", 0, 0, 0, b"t/a", b"v", (("ce_id", b"1"),))
        owner.run = self._call(None, Context(record, "g", "x", 1, None))
        owner.behind = any(isinstance(outcome, Done) for outcome in self.ended)
        self._owners.append(owner)
        self.tell(owner, "starts")
        self._go_on(owner)

    def _step(self) -> None:
        if awake := [owner for owner in self._owners if owner.asleep_until <= self.now]:
            self._go_on(self.random.choice(awake))

    def _stop(self) -> None:
        if self._owners:
            owner = self.random.choice(self._owners)
            owner.asleep_until = self.now + self.random.uniform(TIMEOUT, 3 * (TIMEOUT + SETTLE))

    def _go_on(self, owner: _Owner) -> None:
        self._current = owner
        overran = owner.until is not None and self.now > owner.until
        try:
            if overran and self.random.random() < 0.5:  # what is ready may run once more before the timer does
                self._settle(owner)
                owner.run.throw(RunTimeoutError("overran"))
            else:
                owner.run.send(None)
        except StopIteration as end:
            self._leave(owner, end.value)
        except Exception as error:  # noqa: BLE001 - whatever a run ends with
            self._leave(owner, error)

    def _leave(self, owner: _Owner, outcome: Any) -> None:
        self._owners.remove(owner)
        self.ended.append(outcome)
        self._forgotten |= owner.behind and isinstance(outcome, OutcomeUnknownError)
        self.tell(owner, f"ends with {outcome!r}")
        if self.calm and isinstance(outcome, TransientError):
            self._pass(outcome.after or 1.0)

    def _die(self) -> None:
        if self._owners:
            owner = self._owners.pop(self.random.randrange(len(self._owners)))
            owner.run.close()
            self.tell(owner, "is killed")

    def _wait(self) -> None:
        self._pass(self.random.uniform(0, PATIENCE / 2))

    def _wait_long(self) -> None:
        self._pass(self.random.uniform(0, 2 * (TIMEOUT + SETTLE)))

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        due = [each for each in self._on_the_way if each[0] <= self.now]
        self._on_the_way = [each for each in self._on_the_way if each[0] > self.now]
        for _, owner in due:
            self._happen(owner)

    def tell(self, owner: _Owner | None, what: str) -> None:
        self.story.append(f"{self.now:8.2f} owner {owner.number if owner else '-'} {what}")


class _LossyLedger(MemoryLedger):
    """Its requests and its answers may be lost."""

    def __init__(self, world: World) -> None:
        super().__init__(lambda: world.now)
        self._world = world

    async def _step(self, step: Any) -> Any:
        await self._world.pause()
        self._lose()
        found = step()
        self._world.tell(self._world._current, f"finds {found}")
        await self._world.pause()
        self._lose()
        return found

    def _lose(self) -> None:
        if not self._world.calm and self._world.random.random() < 0.05:
            raise TransientError("the ledger is away")


def play(seed: int, *, asks: bool = True, confirms: bool = True, steps: int = 150) -> World:
    """Play one world to its end."""
    world = World(seed, asks=asks, confirms=confirms)
    world.play(steps)
    return world

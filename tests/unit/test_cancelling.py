"""Orders to cancel jobs: whom they meet, what becomes of a run that is stopped, and that nobody else is."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from streams.control import KEPT, PARTITION, TOPIC, Order, order_of
from streams.core.commands import CANCELLED, NOT_RUN, SUCCEEDED, Blocked, Failed
from streams.engine.calls import Calls
from streams.engine.cancelling import Cancelling, Orders
from streams.engine.fence import Means
from streams.engine.once import OnceCalls
from streams.engine.runner import Runner
from streams.job import Batch, Cancelled, Done, Group, Once, TransientError, Work
from streams.ports import Message, OutOfRangeError, TopicPartition
from tests.effect_doubles import MemoryLedger, Provider
from tests.eventually import eventually
from tests.gateway_doubles import MemoryLog
from tests.unit.test_runner import Plain, Quiet, entries, run


class Told(Quiet):
    def __init__(self) -> None:
        super().__init__()
        self.cancellations: list[tuple[int, bool]] = []

    def cancelled(self, entry: Any, context: Any, *, ran: bool) -> None:
        self.cancellations.append((entry.offset, ran))


class Yard:
    """A runner of one handler, and the orders it heeds."""

    def __init__(self, handler: Any, *, ledger: MemoryLedger | None = None, **work: Any) -> None:
        self.orders = Orders()
        self.told = Told()
        calls: Any = Calls(1)
        if ledger is not None:
            means = Means(ledger=ledger, metrics=Counts(), group="g", owner="me", clock=lambda: 0.0)  # type: ignore[arg-type]
            calls = OnceCalls(calls, means, self.orders)
        works = {"x": Work(handler=handler, **work)}
        group = Group(name="g", source="s", tiers=(), partitions=1, concurrency=1, works=works)
        self.runner = Runner(group, Plain(), None, calls, self.told, lambda: 0.5, "test", orders=self.orders)  # type: ignore[arg-type]

    def cancel(self, offset: int, tenant: str = "t", replays: int = 0, at: int = 1_000) -> None:
        self.orders.give(Order(tenant, f"s/0/{offset}", replays, at, "me"))


class Counts:
    def inc(self, name: str, /, amount: float = 1, **labels: str) -> None: ...


async def test_a_cancelled_job_never_runs_and_the_next_of_its_key_does() -> None:
    ran: list[int] = []

    async def handle(number, ctx) -> None:
        ran.append(number)

    yard = Yard(handle)
    yard.cancel(0)
    first, second = entries(("t/a", "x:1"), ("t/a", "x:2"))

    assert await run(yard.runner, (first,)) == (CANCELLED,)
    assert await run(yard.runner, (second,)) == (SUCCEEDED,)
    assert (ran, yard.told.cancellations, yard.told.completions) == ([2], [(0, False)], [1])


async def test_a_row_of_a_keys_records_stops_at_the_cancelled_one_and_goes_on_behind_it() -> None:
    ran: list[int] = []

    async def handle(number, ctx) -> None:
        ran.append(number)

    yard = Yard(handle)
    yard.cancel(1)
    row = entries(("t/a", "x:1"), ("t/a", "x:2"), ("t/a", "x:3"))

    assert await run(yard.runner, row) == [SUCCEEDED, CANCELLED, NOT_RUN]
    assert await run(yard.runner, row[2:]) == (SUCCEEDED,)
    assert ran == [1, 3]


@pytest.mark.parametrize("order", [{"tenant": "other"}, {"replays": 1}])
async def test_an_order_for_another_tenants_job_or_another_life_does_nothing(order: dict[str, Any]) -> None:
    async def handle(number, ctx) -> None: ...

    yard = Yard(handle)
    yard.cancel(0, **order)

    assert await run(yard.runner, entries(("t/a", "x:1"))) == (SUCCEEDED,)


async def test_a_run_under_way_is_cancelled_and_ends_neither_done_nor_failed() -> None:
    begun, cleaned = asyncio.Event(), []

    async def handle(number, ctx) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(number)

    yard = Yard(handle)
    running = asyncio.ensure_future(run(yard.runner, entries(("t/a", "x:1"))))
    await begun.wait()
    yard.cancel(7)
    yard.cancel(0)
    yard.cancel(0)

    assert await running == (CANCELLED,)
    assert (cleaned, yard.told.cancellations, yard.told.completions) == ([1], [(0, True)], [])


async def test_a_handler_that_turns_its_cancellation_into_an_error_has_not_failed() -> None:
    begun = asyncio.Event()

    async def handle(number, ctx) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("half way") from None

    yard = Yard(handle)
    running = asyncio.ensure_future(run(yard.runner, entries(("t/a", "x:1"))))
    await begun.wait()
    yard.cancel(0)

    assert await running == (CANCELLED,)


async def test_a_handler_that_ends_its_work_all_the_same_has_done_it() -> None:
    begun = asyncio.Event()

    async def handle(number, ctx) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return

    yard = Yard(handle)
    running = asyncio.ensure_future(run(yard.runner, entries(("t/a", "x:1"))))
    await begun.wait()
    yard.cancel(0)

    assert await running == (SUCCEEDED,)


async def test_a_shutdown_that_comes_with_the_order_is_a_shutdown() -> None:
    begun = asyncio.Event()

    async def handle(number, ctx) -> None:
        begun.set()
        await asyncio.sleep(60)

    yard = Yard(handle)
    running = asyncio.ensure_future(run(yard.runner, entries(("t/a", "x:1"))))
    await begun.wait()
    yard.cancel(0)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert yard.told.cancellations == []


async def test_the_time_out_of_a_run_is_no_cancellation() -> None:
    async def handle(number, ctx) -> None:
        await asyncio.sleep(60)

    yard = Yard(handle, timeout=0.01)
    (result,) = await run(yard.runner, entries(("t/a", "x:1")))

    assert isinstance(result, Failed)


async def test_a_thread_cannot_be_stopped_so_what_it_does_counts() -> None:
    loop, begun, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def handle(number, ctx) -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(10)

    yard = Yard(handle)
    running = asyncio.ensure_future(run(yard.runner, entries(("t/a", "x:1"))))
    await begun.wait()
    yard.cancel(0)
    go.set()

    assert await running == (SUCCEEDED,)


async def test_of_a_batch_the_cancelled_job_is_left_out_before_it_begins() -> None:
    seen: list[list[int]] = []

    async def handle(numbers, contexts) -> None:
        seen.append(list(numbers))

    yard = Yard(handle, batch=Batch(size=8))
    yard.cancel(1)
    results = await run(yard.runner, entries(("t/a", "x:1"), ("t/b", "x:2"), ("t/b", "x:3"), ("t/c", "x:4")))

    assert results == [SUCCEEDED, CANCELLED, NOT_RUN, SUCCEEDED]
    assert seen == [[1, 4]]


async def test_a_handler_may_say_itself_that_its_job_is_cancelled() -> None:
    async def handle(number, ctx) -> Cancelled:
        return Cancelled()

    assert await run(Yard(handle).runner, entries(("t/a", "x:1"))) == (CANCELLED,)


async def test_an_effect_that_may_have_happened_is_asked_for_before_its_job_is_called_cancelled() -> None:
    provider = Provider()

    async def handle(number, ctx) -> None:
        provider.send(ctx.idempotency_key)
        raise TransientError("the answer was lost")

    yard = Yard(handle, ledger=MemoryLedger(), once=Once(reconcile=provider.reconcile, settle=0))
    (entry,) = entries(("t/a", "x:1"))
    (blocked,) = await run(yard.runner, (entry,))
    yard.cancel(0)

    assert isinstance(blocked, Blocked)
    assert await run(yard.runner, (entry,)) == (SUCCEEDED,)
    assert (len(provider.effects), yard.told.cancellations) == (1, [])


async def test_an_effect_that_did_not_happen_never_does_once_its_job_is_cancelled() -> None:
    provider = Provider()

    async def handle(number, ctx) -> None:
        raise TransientError("not reached")

    yard = Yard(handle, ledger=MemoryLedger(), once=Once(reconcile=provider.reconcile, settle=0))
    (entry,) = entries(("t/a", "x:1"))
    await run(yard.runner, (entry,))
    yard.cancel(0)

    assert await run(yard.runner, (entry,)) == (CANCELLED,)
    assert (provider.lookups, yard.told.cancellations) == (1, [(0, True)])


async def test_an_effect_nobody_knows_of_is_left_to_an_operator_whatever_was_ordered() -> None:
    async def handle(number, ctx) -> None:
        raise ValueError("perhaps it was sent")

    yard = Yard(handle, ledger=MemoryLedger(), once=Once(settle=0))
    (entry,) = entries(("t/a", "x:1"))
    await run(yard.runner, (entry,))
    yard.cancel(0)
    (result,) = await run(yard.runner, (entry,))

    assert (result.final, result.failure.classification) == (True, "outcome-unknown")


async def test_a_cancelled_job_is_not_confirmed_so_nothing_is_sent() -> None:
    provider, begun, go = Provider(), asyncio.Event(), asyncio.Event()

    async def handle(number, ctx) -> Done:
        begun.set()
        await go.wait()
        await ctx.confirm()
        provider.send(ctx.idempotency_key)
        return Done()

    yard = Yard(handle, ledger=MemoryLedger(), once=Once(confirms=True))
    (entry,) = entries(("t/a", "x:1"))
    running = asyncio.ensure_future(run(yard.runner, (entry,)))
    await begun.wait()
    yard.cancel(0)
    go.set()

    assert isinstance((await running)[0], Blocked)
    assert await run(yard.runner, (entry,)) == (CANCELLED,)
    assert provider.effects == []


def test_orders_are_forgotten_by_their_age_the_oldest_first() -> None:
    orders = Orders()
    for at in (1_000, 2_000, 3_000):
        orders.give(Order("t", f"j{at}", 0, at, "me"))
    orders.give(Order("t", "j1000", 0, 4_000, "me"))

    orders.forget(2.5)

    assert [order.at for order in orders.known.values()] == [3_000, 4_000]


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b'{"tenant": 1', b"\xff"])
def test_what_a_stranger_wrote_is_no_order(value: bytes | None) -> None:
    assert order_of(value) is None


PLACE = TopicPartition(TOPIC, PARTITION)


async def ordered(log: MemoryLog, *orders: Order) -> None:
    for order in orders:
        await log.publish(Message(TOPIC, order.name.encode(), order.value))


async def test_all_that_stood_in_the_topic_is_known_before_anything_runs_and_what_comes_is_heard() -> None:
    log, orders = MemoryLog(), Orders()
    await ordered(log, *(Order("t", f"j{n}", 0, 1_000_000, "me") for n in range(3)))
    cancelling = Cancelling(orders, log, log, clock=lambda: 1_000.0)
    following = asyncio.create_task(cancelling.run())
    await cancelling.known()
    before = sorted(orders.known)
    log.cut = OutOfRangeError({PLACE: 3})
    await ordered(log, Order("t", "j9", 0, 1_000_000, "me"))

    async def heard() -> bool:
        return "t/j9" in orders.known

    await eventually(heard)
    following.cancel()

    assert before == ["t/j0", "t/j1", "t/j2"]


async def test_old_orders_are_not_kept() -> None:
    log, orders = MemoryLog(), Orders()
    await ordered(log, Order("t", "old", 0, 0, "me"), Order("t", "new", 0, 9_000, "me"))
    cancelling = Cancelling(orders, log, log, clock=lambda: KEPT + 5.0)
    following = asyncio.create_task(cancelling.run())
    await cancelling.known()
    following.cancel()

    assert list(orders.known) == ["t/new"]

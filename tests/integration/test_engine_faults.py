"""What goes wrong around a record: time-outs, dying processes, servers that are away, consumers that stand still."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiokafka.protocol.group import LeaveGroupRequest

from schemas.errors import RegistryUnavailableError
from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.core import headers
from streams.engine.family import CoPartitionError
from streams.engine.runner import Runner
from streams.job import TransientError
from tests.eventually import eventually as wait_until
from tests.integration import process_handlers
from tests.integration.engine_kit import Order
from tests.integration.test_engine import Ledger, dead_letters, kit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streams.engine.engine import Engine
    from streams.ports import Record

__all__ = ["kit"]


async def eventually(condition: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return condition()

    await wait_until(asked, within=30)


def reason(dead: Any) -> str:
    return headers.text(dead.headers, headers.EXCEPTION) or ""


async def test_a_run_that_overruns_is_cancelled_and_counts_as_a_failed_attempt(kit) -> None:
    cancelled = asyncio.Event()

    async def handle(order, ctx) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    made = await kit(handle, attempts=1, work={"timeout": 0.2})
    async with made.engine():
        await made.publish(1)
        (dead,) = await dead_letters(made, 1)
    assert cancelled.is_set()
    assert reason(dead) == "streams.engine.deadlines.RunTimeoutError"


async def test_a_thread_that_overruns_keeps_its_key_until_it_ends(kit) -> None:
    running, release, at_once = threading.Event(), threading.Event(), []

    def handle(order, ctx) -> None:
        at_once.append(running.is_set())
        running.set()
        release.wait(20)
        running.clear()

    made = await kit(handle, attempts=1, work={"timeout": 0.2})
    async with made.engine():
        await made.publish(1, "a")
        await made.publish(2, "a")
        await eventually(running.is_set)
        await asyncio.sleep(0.5)  # well past the time-out: the second must still wait
        assert len(at_once) == 1
        release.set()
        await dead_letters(made, 1)
        await eventually(lambda: len(at_once) == 2)
    assert at_once == [False, False], "never two of one key"


async def test_a_process_handler_runs_elsewhere_and_the_death_of_its_process_is_a_failed_attempt(
    kit, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    made = await kit(process_handlers.note_process, work={"execution": "process", "timeout": 30.0})
    async with made.engine():
        await made.publish_order(Order(number=1, name=str(notes)))
        await eventually(notes.exists)
    number, process = notes.read_text().split()
    assert number == "1"
    assert int(process) != os.getpid()

    mortal = await kit(process_handlers.die, attempts=1, work={"execution": "process", "timeout": 30.0})
    async with mortal.engine():
        await mortal.publish(1)
        (dead,) = await dead_letters(mortal, 1)
    assert reason(dead) == "streams.engine.calls.ProcessDiedError"


async def test_a_process_that_overruns_is_killed(kit, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    made = await kit(process_handlers.overrun, attempts=1, work={"execution": "process", "timeout": 1.0})
    async with made.engine():
        await made.publish_order(Order(number=1, name=str(notes)))
        (dead,) = await dead_letters(made, 1)
        process = int(notes.read_text().split()[1])
        await eventually(lambda: not alive(process))
    assert reason(dead) == "streams.engine.deadlines.RunTimeoutError"


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_registry_that_is_away_makes_records_wait_and_never_makes_them_dead(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        await ledger.note(ctx.key, ctx.attempt)

    made = await kit(handle, attempts=1)
    asked = asyncio.Event()
    answer = made.registry.schema

    async def away(schema_id: int) -> str:
        asked.set()
        raise RegistryUnavailableError("away")

    made.registry.schema = away
    with structlog.testing.capture_logs() as logs:
        async with made.engine():
            await made.publish(1)
            await asked.wait()
            made.registry.schema = answer
            await ledger.reached(1)
    assert ledger.effects == [("t/a", 1)], "the first attempt, not the second"
    assert "the record cannot be decoded for now: away" in {line.get("reason") for line in logs}


async def test_a_handler_whose_server_is_away_waits_without_using_up_attempts(kit) -> None:
    ledger, tries = Ledger(), []

    async def handle(order, ctx) -> None:
        tries.append(ctx.attempt)
        if len(tries) < 3:
            raise TransientError("the database is away")
        await ledger.note(ctx.key, order.number)

    made = await kit(handle, attempts=1)
    async with made.engine():
        await made.publish(1)
        await ledger.reached(1)
    assert tries == [1, 1, 1]


async def test_a_run_that_outlives_the_drain_is_cancelled_and_runs_again_as_the_same_attempt(kit) -> None:
    ledger, started, first = Ledger(), asyncio.Event(), True

    async def handle(order, ctx) -> None:
        started.set()
        if first:
            await asyncio.sleep(60)
        await ledger.note(ctx.key, ctx.attempt)

    made = await kit(handle, attempts=1, work={"timeout": 120})
    async with made.engine(drain_timeout=0.3):
        await made.publish(1)
        await started.wait()
    first = False
    async with made.engine():
        await ledger.reached(1)
    assert ledger.effects == [("t/a", 1)], "a cancelled run neither succeeded nor failed"


async def test_a_member_the_group_has_dropped_finishes_nothing_and_joins_again_at_once(kit) -> None:
    starts, second = [], asyncio.Event()

    async def handle(order, ctx) -> None:
        starts.append(ctx.attempt)
        if len(starts) == 1:
            second.set()
            await asyncio.Event().wait()  # a drain would wait for this one

    made = await kit(handle, attempts=1, work={"timeout": 120})
    async with made.engine(drain_timeout=60) as engine:
        await made.publish(1)
        await asyncio.wait_for(second.wait(), 30)
        await dropped(engine)
        await eventually(lambda: len(starts) == 2)
    assert starts == [1, 1]


async def dropped(engine: Engine) -> None:
    """The group forgets this member, as it does after a session without heartbeats."""
    coordinator = engine._consumer._running._coordinator
    await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, coordinator.member_id))


async def test_records_without_a_key_have_no_order_and_wait_for_nobody(kit) -> None:
    ledger, release = Ledger(), asyncio.Event()

    async def handle(order, ctx) -> None:
        if order.number == 0:
            await release.wait()
        await ledger.note(str(ctx.key), order.number)

    made = await kit(handle)
    async with made.engine():
        for number in range(5):
            await made.publish(number, entity=None)
        await ledger.reached(4)
        release.set()
        await ledger.reached(5)
    assert sorted(ledger.of("None")) == [0, 1, 2, 3, 4]


async def test_topics_that_are_not_partitioned_alike_are_refused(kit, create_topics, unique) -> None:
    async def handle(order, ctx) -> None:
        raise AssertionError("must not run")

    made = await kit(handle, partitions={"retry.1": 3})
    with pytest.raises(CoPartitionError, match=r"partition 2 of .*keylane topics plan"):
        async with made.engine():
            pass


class Sleepy(KafkaGroupConsumer):
    """A consumer that reads nothing until it is started a second time."""

    starts = 0

    async def start(self, revoked, assigned) -> None:
        self.starts += 1
        await super().start(revoked, assigned)

    async def poll(self, wait: float) -> dict[Any, list[Record]]:
        if self.starts < 2:
            await asyncio.sleep(wait)
            return {}
        return await super().poll(wait)


async def test_a_consumer_that_stands_still_before_a_backlog_is_rebuilt(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        await ledger.note(ctx.key, order.number)

    made = await kit(handle)
    async with made.engine(consumer_class=Sleepy, stall_timeout=1.0):
        await made.publish(1)
        await ledger.reached(1)
    assert b'keylane_watchdog_rebuilds_total{group="' in made.metrics.text()


class Leaky(KafkaGroupConsumer):
    """Lets the cancellation of a task of its own out, once."""

    polls = 0

    async def poll(self, wait: float, among: Any = None) -> Any:
        self.polls += 1
        if self.polls == 1:
            raise asyncio.CancelledError
        return await super().poll(wait, among)


async def test_a_cancellation_inside_the_client_does_not_end_the_engine(kit) -> None:
    ledger = Ledger()

    async def handle(order, ctx) -> None:
        await ledger.note(ctx.key, order.number)

    made = await kit(handle)
    async with made.engine(consumer_class=Leaky):
        await made.publish(1)
        await ledger.reached(1)
    assert ledger.of("t/a") == [1]


async def test_a_run_that_ends_without_a_result_is_started_over(kit, monkeypatch) -> None:
    ledger, broken = Ledger(), [True]
    begin = Runner.begin

    def breaks_once(self, run) -> Any:
        if broken:
            broken.clear()
            raise RuntimeError("a bug of ours")
        return begin(self, run)

    async def handle(order, ctx) -> None:
        await ledger.note(ctx.key, order.number)

    monkeypatch.setattr(Runner, "begin", breaks_once)
    made = await kit(handle)
    async with made.engine(drain_timeout=0.3):
        for number in range(3):
            await made.publish(number)
        await ledger.reached(3)
    assert ledger.of("t/a") == [0, 1, 2]

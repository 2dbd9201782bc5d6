"""What becomes of runs of handlers marked ``once``, at a provider that deduplicates nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.adapters.metrics import PrometheusMetrics
from streams.core.commands import SUCCEEDED, Blocked, Failed
from streams.core.retry import RetryPolicy
from streams.engine.calls import Calls
from streams.engine.fence import Means
from streams.engine.once import OnceCalls
from streams.engine.runner import Runner
from streams.job import (
    Batch,
    Done,
    FencedError,
    Group,
    NotDone,
    Once,
    Reject,
    Retry,
    TransientError,
    Unknown,
    Work,
)
from tests.effect_doubles import MemoryLedger, Provider
from tests.unit.test_runner import Plain, Quiet, entries, run


class World:
    """One group with one handler marked ``once``, a clock that stands still, and what came of each run."""

    def __init__(self, handler: Any, *, once: Once, provider: Provider | None = None, **work: Any) -> None:
        self.now = 100.0
        self.ledger = MemoryLedger(lambda: self.now)
        self.provider = provider or Provider()
        self.metrics = PrometheusMetrics()
        self.results: list[Any] = []
        self.slept: list[float] = []
        works = {"x": Work(handler=handler, once=once, **({"timeout": 10.0} | work))}
        group = Group(name="g", source="s", tiers=(), partitions=1, concurrency=1, works=works)
        means = Means(
            ledger=self.ledger, metrics=self.metrics, group="g", owner="me", clock=self.clock, sleep=self.sleep
        )
        self.told = Told()
        self._runner = Runner(group, Plain(), None, OnceCalls(Calls(1), means), self.told, lambda: 0.5, "test")

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ledger.fault = None

    async def run(self, value: str = "x:1", key: str = "t/a", *headers: tuple[str, bytes]) -> Any:
        (entry,) = entries((key, value))
        record = entry.record
        entry.record = record._replace(headers=(*record.headers, *headers))
        (result,) = await run(self._runner, (entry,))
        return result

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics._child(name, {"group": "g", **labels})._value.get()


class Told(Quiet):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []

    def completed(self, entry: Any, context: Any, result: Any) -> None:
        self.values.append(result)


def sending(provider: Provider, *afterwards: Any) -> Any:
    """A handler that makes the effect, then returns or raises the next of ``afterwards`` (or is done)."""
    left = list(afterwards)

    async def handle(number: int, ctx: Any) -> Any:
        await ctx.confirm()
        provider.send(ctx.idempotency_key)
        outcome = left.pop(0) if left else Done(number)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return handle


async def test_a_second_run_is_not_made_and_ends_with_the_result_of_the_first() -> None:
    provider = Provider()
    world = World(sending(provider), once=Once())
    assert await world.run() is SUCCEEDED
    assert await world.run() is SUCCEEDED
    assert len(provider.effects) == 1
    assert world.told.values == [1, 1]
    assert world.counted("keylane_effect_intents_total") == 1
    assert world.counted("keylane_effects_recognised_total") == 1


async def test_a_run_that_failed_after_sending_is_looked_up_and_not_sent_again() -> None:
    provider = Provider()
    world = World(sending(provider, ValueError("connection reset")), once=Once(reconcile=provider.reconcile))
    failed = await world.run()
    assert isinstance(failed, Failed)
    assert (failed.final, failed.failure.classification) == (False, "outcome-unknown")
    assert failed.failure.exception == "builtins.ValueError"
    assert await world.run() is SUCCEEDED
    assert len(provider.effects) == 1
    assert world.told.values == ["found"]
    assert world.counted("keylane_effects_reconciled_total", answer="done") == 1


async def test_without_a_look_up_an_unknown_outcome_is_a_dead_letter_and_only_a_replay_sends_again() -> None:
    provider = Provider()
    world = World(sending(provider, TimeoutError("no answer")), once=Once())
    failed = await world.run()
    assert (failed.final, failed.failure.classification) == (True, "outcome-unknown")
    again = await world.run()
    assert isinstance(again, Blocked), "what was sent may still show"
    world.now += again.seconds
    again = await world.run()
    assert (again.final, again.failure.classification) == (True, "outcome-unknown")
    assert "replay to send it again" in again.failure.message
    assert len(provider.effects) == 1
    assert await world.run("x:1", "t/a", ("kl-replays", b"1")) is SUCCEEDED
    assert len(provider.effects) == 2


async def test_a_replay_allows_one_more_sending_only() -> None:
    provider = Provider()
    world = World(sending(provider, TimeoutError(), TimeoutError()), once=Once(settle=0))
    await world.run()
    replayed = ("x:1", "t/a", ("kl-replays", b"1"))
    assert (await world.run(*replayed)).failure.classification == "outcome-unknown"
    assert (await world.run(*replayed)).failure.classification == "outcome-unknown"
    assert len(provider.effects) == 2


async def test_what_the_provider_does_not_know_yet_is_waited_for_and_then_sent() -> None:
    provider = Provider()
    world = World(sending(provider), once=Once(reconcile=provider.reconcile, settle=3.0))
    await crash_before_sending(world)
    waits = await world.run()
    assert isinstance(waits, Blocked)
    assert waits.seconds == pytest.approx(1 + 10 + 3), "one second of patience, the time-out, the settling"
    assert provider.effects == []
    world.now += waits.seconds
    assert await world.run() is SUCCEEDED
    assert provider.lookups == 2
    assert len(provider.effects) == 1


async def crash_before_sending(world: World) -> None:
    """Begin a run as a worker does that then dies."""

    async def nothing(number: int, ctx: Any) -> None:
        await asyncio.Event().wait()

    means = Means(ledger=world.ledger, metrics=world.metrics, group="g", owner="dead", clock=world.clock)
    work = Work(handler=nothing, once=Once(settle=3.0), timeout=10.0)
    group = Group(name="g", source="s", tiers=(), partitions=1, concurrency=1, works={"x": work})
    runner = Runner(group, Plain(), None, OnceCalls(Calls(1), means), Quiet(), lambda: 0.5, "test")
    task = asyncio.ensure_future(run(runner, entries(("t/a", "x:1"))))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_handler_that_confirms_and_failed_before_that_is_simply_tried_again() -> None:
    provider = Provider()
    faults: list[Exception] = [ValueError("not yet"), TransientError("Redis is away")]

    async def handle(number: int, ctx: Any) -> None:
        if faults:
            raise faults.pop(0)
        await ctx.confirm()
        provider.send(ctx.idempotency_key)

    world = World(handle, once=Once(confirms=True))
    first, second = await world.run(), await world.run()
    assert (first.final, first.failure.classification) == (False, "exhausted")
    assert isinstance(second, Blocked)
    assert await world.run() is SUCCEEDED
    assert len(provider.effects) == 1


@pytest.mark.parametrize("outcome", [Retry("the provider refused the connection"), Reject("no such account")])
async def test_retry_and_reject_say_that_nothing_was_done(outcome: Any) -> None:
    provider = Provider()
    outcomes = [outcome]

    async def handle(number: int, ctx: Any) -> Any:
        if outcomes:
            return outcomes.pop()
        provider.send(ctx.idempotency_key)
        return None

    world = World(handle, once=Once())
    assert isinstance(await world.run(), Failed)
    assert await world.run() is SUCCEEDED
    assert len(provider.effects) == 1


async def test_who_was_taken_over_does_not_send_and_reports_neither_success_nor_failure() -> None:
    provider = Provider()

    async def handle(number: int, ctx: Any) -> Any:
        world.ledger.rows[ctx.idempotency_key].token += 1_000
        await ctx.confirm()
        provider.send(ctx.idempotency_key)

    world = World(handle, once=Once())
    assert isinstance(await world.run(), Blocked)
    assert provider.effects == []
    assert world.counted("keylane_effects_fenced_total", at="confirm") == 1


@pytest.mark.parametrize("outcome", [Done("lie"), Retry("x"), ValueError("x")])
async def test_a_handler_that_swallows_the_fence_cannot_end_the_effect(outcome: Any) -> None:
    async def handle(number: int, ctx: Any) -> Any:
        world.ledger.rows[ctx.idempotency_key].token += 1_000
        with pytest.raises(FencedError):
            await ctx.confirm()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    world = World(handle, once=Once())
    assert isinstance(await world.run(), Blocked)
    (row,) = world.ledger.rows.values()
    assert row.result is None
    assert row.until is not None


async def test_an_effect_that_happened_is_known_even_if_its_run_was_taken_over() -> None:
    provider = Provider()

    async def handle(number: int, ctx: Any) -> Any:
        provider.send(ctx.idempotency_key)
        world.ledger.rows[ctx.idempotency_key].token += 1_000

    world = World(handle, once=Once())
    assert await world.run() is SUCCEEDED
    assert world.counted("keylane_effects_fenced_total", at="outcome") == 1
    assert await world.run() is SUCCEEDED
    assert len(provider.effects) == 1


async def test_a_ledger_that_is_away_makes_the_key_wait_before_the_run_and_the_run_wait_at_its_end() -> None:
    provider = Provider()

    async def handle(number: int, ctx: Any) -> Any:
        provider.send(ctx.idempotency_key)
        world.ledger.fault = TransientError("PostgreSQL is away")

    world = World(handle, once=Once())
    world.ledger.fault = TransientError("PostgreSQL is away")
    assert isinstance(await world.run(), Blocked)
    assert provider.effects == []
    world.ledger.fault = None
    assert await world.run() is SUCCEEDED
    assert len(world.slept) == 1


async def test_after_a_standstill_the_handler_starts_only_under_a_token_confirmed_anew() -> None:
    provider = Provider()
    world = World(sending(provider), once=Once(reconcile=provider.reconcile))
    begin = world.ledger.begin

    async def stopped(intent: Any) -> Any:
        standing = await begin(intent)
        world.now += 60  # SIGSTOP; meanwhile another worker has taken over
        world.ledger.rows[intent.key].token += 1_000
        return standing

    world.ledger.begin = stopped
    assert isinstance(await world.run(), Blocked)
    assert provider.effects == []
    assert world.counted("keylane_effect_intents_total") == 0, "the handler was not even called"


async def test_a_confirmation_that_took_long_is_asked_for_again() -> None:
    provider = Provider()
    world = World(sending(provider), once=Once())
    arm, calls = world.ledger.arm, []

    async def slow(*given: Any) -> Any:
        calls.append(given)
        answer = await arm(*given)
        world.now += 60 if len(calls) == 1 else 0
        return answer

    world.ledger.arm = slow
    assert await world.run() is SUCCEEDED
    assert len(calls) == 2


async def test_a_ledger_that_is_slow_every_time_makes_the_key_wait() -> None:
    provider = Provider()
    world = World(sending(provider), once=Once(reconcile=provider.reconcile))
    arm = world.ledger.arm

    async def slow(*given: Any) -> Any:
        world.now += 2
        return await arm(*given)

    world.ledger.arm = slow
    assert isinstance(await world.run(), Blocked)
    assert provider.effects == []


async def test_a_time_out_that_passes_while_the_ledger_does_not_answer_uses_up_no_attempt() -> None:
    provider = Provider()
    world = World(sending(provider), once=Once(reconcile=provider.reconcile, confirms=True), timeout=0.01)
    arm = world.ledger.arm

    async def silent(*_: Any) -> Any:
        await asyncio.Event().wait()

    world.ledger.arm = silent
    assert isinstance(await world.run(), Blocked)
    assert provider.effects == []
    world.ledger.arm = arm
    assert await world.run() is SUCCEEDED


async def test_a_time_out_that_passes_after_the_confirmation_is_the_handlers_own() -> None:
    async def overrun(number: int, ctx: Any) -> Any:
        await ctx.confirm()
        await asyncio.Event().wait()

    provider = Provider()
    world = World(overrun, once=Once(reconcile=provider.reconcile, confirms=True), timeout=0.01)
    assert isinstance(await world.run(), Failed)


async def test_two_records_with_one_id_are_not_taken_for_one_another() -> None:
    provider = Provider()
    world = World(sending(provider), once=Once())
    assert await world.run("x:1", "t/a", ("ce_id", b"same")) is SUCCEEDED
    refused = await world.run("x:2", "t/a", ("ce_id", b"same"))
    assert (refused.final, refused.failure.classification) == (True, "rejected")
    assert "two of them bear one id" in refused.failure.message
    assert len(provider.effects) == 1


@pytest.mark.parametrize("answer", [Unknown("still pending"), "yes", RuntimeError("503"), TransientError("away")])
async def test_a_look_up_that_cannot_tell_sends_nothing(answer: Any) -> None:
    provider = Provider()

    async def reconcile(payload: Any, ctx: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    world = World(
        sending(provider, ValueError("reset")), once=Once(reconcile=reconcile, settle=0), retry=RetryPolicy(attempts=9)
    )
    await world.run()
    result = await world.run()
    if isinstance(answer, TransientError):
        assert isinstance(result, Blocked)
    else:
        assert (result.final, result.failure.classification) == (False, "outcome-unknown")
    assert len(provider.effects) == 1


async def test_a_final_error_stays_final_and_says_that_the_outcome_is_unknown() -> None:
    provider = Provider()
    world = World(
        sending(provider, KeyError("x")),
        once=Once(reconcile=provider.reconcile),
        retry=RetryPolicy(final=(LookupError,)),
    )
    result = await world.run()
    assert (result.final, result.failure.classification) == (True, "outcome-unknown")


async def test_the_fencing_token_rises_with_every_run() -> None:
    tokens: list[int] = []

    async def handle(number: int, ctx: Any) -> Any:
        tokens.append(ctx.fencing_token)
        return Retry()

    world = World(handle, once=Once())
    for _ in range(3):
        await world.run()
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 3


async def test_a_handler_not_marked_once_has_nothing_to_confirm() -> None:
    errors: list[str] = []

    async def handle(number: int, ctx: Any) -> None:
        with pytest.raises(TypeError) as confirmed:
            await ctx.confirm()
        with pytest.raises(TypeError) as asked:
            assert ctx.fencing_token
        errors.extend(map(str, (confirmed.value, asked.value)))

    world = World(handle, once=Once())
    plain = OnceCalls(Calls(1), Means(ledger=world.ledger, metrics=world.metrics, group="g", owner="me"))
    group = Group(name="g", source="s", tiers=(), partitions=1, concurrency=1, works={"x": Work(handler=handle)})
    await run(Runner(group, Plain(), None, plain, Quiet(), lambda: 0.5, "test"), entries(("t/a", "x:1")))
    assert len(errors) == 2
    assert all("once=Once" in error for error in errors)
    assert world.ledger.rows == {}


def test_a_worker_without_a_ledger_does_not_run_handlers_marked_once() -> None:
    with pytest.raises(TypeError, match="OnceCalls"):
        Calls(1).bind(Work(handler=anything, once=Once()))


def plain(payload: Any, ctx: Any) -> None: ...


async def anything(payload: Any, ctx: Any) -> NotDone:
    return NotDone()


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: Work(handler=plain, once=Once()), "async def"),
        (lambda: Work(handler=plain, execution="process", once=Once()), "async def"),
        (lambda: Work(handler=anything, batch=Batch(), once=Once()), "batch"),
        (lambda: Once(settle=-1), "negative"),
        (lambda: Once(reconcile=plain), "async def"),
    ],
)
def test_what_cannot_be_kept_is_refused_when_declared(declare: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declare()

"""Records that came under an Idempotency-Key run once per group, with whatever handler; others cost no look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streams.adapters.metrics import PrometheusMetrics
from streams.core.commands import SUCCEEDED, Blocked, Failed
from streams.core.headers import REQUEST
from streams.core.retry import RetryPolicy
from streams.engine.calls import Calls
from streams.engine.fence import Means
from streams.engine.once import OnceCalls
from streams.engine.recognition import Recognition
from streams.engine.runner import Runner
from streams.job import Batch, Done, Group, Once, Reject, Retry, TransientError, Work
from tests.effect_doubles import MemoryLedger
from tests.unit.test_runner import Plain, Quiet, entries, run

if TYPE_CHECKING:
    from streams.core.track import Entry


def under(request: str, found: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The same entries, as they come under a key."""
    for entry in found:
        entry.record = entry.record._replace(headers=(*entry.record.headers, (REQUEST, request.encode())))
    return found


class World:
    """A group of one handler; its runs are gathered."""

    def __init__(self, outcome: Any = None, *, batch: bool = False, group: str = "g", **more: Any) -> None:
        self.runs: list[Any] = []
        self.outcome = outcome
        self.ledger = MemoryLedger()
        self.metrics = PrometheusMetrics()
        self.told = Quiet()
        work = Work(
            handler=self._batch if batch else self._one,
            batch=Batch(size=10) if batch else None,
            retry=RetryPolicy(attempts=3),
            **more,
        )
        self._group = Group(name=group, source="s", tiers=(), partitions=1, concurrency=1, works={"x": work})
        self._runner = self._made()

    async def _one(self, payload: int, ctx: Any) -> Any:
        return await self._batch(payload, ctx)

    async def _batch(self, payload: Any, ctx: Any) -> Any:
        self.runs.append(payload)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def _made(self) -> Runner:
        means = Means(ledger=self.ledger, metrics=self.metrics, group=self._group.name, owner="w")
        calls = OnceCalls(Calls(1), means)
        recognition = Recognition(means)
        return Runner(
            self._group,
            Plain(),
            None,
            calls,
            self.told,
            lambda: 0.5,
            "test",
            recognition=recognition,  # type: ignore[arg-type]
        )

    async def run(self, found: tuple[Entry, ...]) -> Any:
        return await run(self._runner, found)


async def test_a_record_that_comes_again_is_done_with_the_first_ones_result() -> None:
    world = World(Done({"paid": 7}))
    first = await world.run(under("r1", entries(("t/a", "x:1"))))
    again = await world.run(under("r1", entries(("t/a", "x:1"))))

    assert (list(first), list(again), world.runs) == ([SUCCEEDED], [SUCCEEDED], [1])
    assert b'keylane_requests_recognised_total{group="g"} 1.0' in world.metrics.text()
    assert len(world.told.completions) == 2


async def test_without_the_header_the_ledger_is_not_asked() -> None:
    world = World()
    world.ledger.fault = AssertionError("it was asked")
    for _ in range(2):
        assert list(await world.run(entries(("t/a", "x:1")))) == [SUCCEEDED]

    assert world.runs == [1, 1]


@pytest.mark.parametrize("outcome", [Retry(), Reject("no"), RuntimeError("boom")])
async def test_what_did_not_succeed_is_run_again(outcome: Any) -> None:
    world = World(outcome)
    (failed,) = await world.run(under("r1", entries(("t/a", "x:1"))))
    world.outcome = None
    (done,) = await world.run(under("r1", entries(("t/a", "x:1"))))

    assert isinstance(failed, Failed)
    assert (done, world.runs) == (SUCCEEDED, [1, 1])


async def test_two_records_of_one_key_that_differ_are_not_taken_for_one() -> None:
    world = World()
    await world.run(under("r1", entries(("t/a", "x:1"))))
    (refused,) = await world.run(under("r1", entries(("t/a", "x:2"))))

    assert isinstance(refused, Failed)
    assert "stands for another record" in refused.failure.message
    assert world.runs == [1]


async def test_a_ledger_that_is_away_lets_the_key_wait() -> None:
    world = World()
    world.ledger.fault = TransientError("away")
    (waits,) = await world.run(under("r1", entries(("t/a", "x:1"))))

    assert isinstance(waits, Blocked)
    assert world.runs == []


async def test_in_a_batch_only_what_is_not_done_is_handed_over() -> None:
    world = World(batch=True)
    await world.run(under("r1", entries(("t/a", "x:1"))))
    twins = (*under("r1", entries(("t/a", "x:1"))), *under("r2", entries(("t/b", "x:2"))), *entries(("t/c", "x:3")))
    more = (*twins, *under("r2", entries(("t/b", "x:2"))))

    assert list(await world.run(more)) == [SUCCEEDED] * 4
    assert list(await world.run(more[:2])) == [SUCCEEDED] * 2
    assert world.runs == [[1], [2, 3]]


async def test_a_batch_is_searched_for_the_record_that_bears_anothers_id() -> None:
    world = World(batch=True)
    found = (*under("r1", entries(("t/a", "x:1"))), *under("r1", entries(("t/b", "x:2"))), *entries(("t/c", "x:3")))
    results = await world.run(found)

    assert [result is SUCCEEDED for result in results] == [True, False, True]
    assert sorted(number for row in world.runs for number in row) == [1, 3]


async def test_a_handler_marked_once_has_its_own_entry_and_needs_no_other() -> None:
    world = World(once=Once())
    await world.run(under("r1", entries(("t/a", "x:1"))))

    assert not any(key.startswith("request/") for key in world.ledger.rows)

"""What runs become: batches halved, neighbours of different handlers kept apart, keys stopped behind a failure."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.errors import UndecodableError
from streams.core.commands import NOT_RUN, SUCCEEDED, Blocked, Failed
from streams.core.commit_map import CommitMap
from streams.core.headers import SOURCE
from streams.core.retry import RetryPolicy
from streams.core.track import SHELF_SOURCE, Entry, Track
from streams.engine.calls import Calls
from streams.engine.runner import Runner
from streams.engine.steps import Rest
from streams.job import Batch, Done, Group, Reject, Retry, TransientError, Work
from tests.simulation.broker import Rec


class Plain:
    """A codec whose values are ``<type>:<number>``; ``?`` is nothing."""

    def reader(self, value: bytes) -> Any:
        name, _, number = value.decode().partition(":")
        if number == "?":
            raise UndecodableError("nothing")
        return SimpleNamespace(contract=SimpleNamespace(name=name), read=lambda _: int(number))


class Quiet:
    """Telemetry that only counts what was completed."""

    tracking = True
    full = False

    def __init__(self) -> None:
        self.completions: list[int] = []

    async def room(self) -> None: ...

    def started(self, entry: Any, context: Any, payload: Any) -> None: ...

    def ended(self, name: str, result: Any, seconds: float, records: int) -> None: ...

    def blocked(self, name: str, reason: str) -> None: ...

    def completed(self, entry: Entry, context: Any, result: Any) -> None:
        self.completions.append(entry.offset)


def runner(works: dict[str, Work], telemetry: Quiet | None = None, *, ignore_unknown: bool = False) -> Runner:
    group = Group(
        name="g", source="s", tiers=(), partitions=1, concurrency=1, works=works, ignore_unknown=ignore_unknown
    )
    return Runner(group, Plain(), None, Calls(1), telemetry or Quiet(), lambda: 0.5, "test")


async def run(runner: Runner, entries: tuple[Entry, ...]) -> Any:
    found = runner.begin(entries)
    return await found if isinstance(found, Rest) else found


def entries(*records: tuple[str, str]) -> tuple[Entry, ...]:
    """Entries of (key, value), in order."""
    track = Track(SHELF_SOURCE, 0, CommitMap())
    return tuple(
        Entry(
            track,
            offset,
            key.encode(),
            SOURCE,
            Rec("s", 0, offset, 0, key.encode(), value.encode(), (("ce_type", value.split(":")[0].encode()),)),
        )
        for offset, (key, value) in enumerate(records)
    )


def kinds(results: list[Any]) -> list[str]:
    return ["done" if r is SUCCEEDED else "not run" if r is NOT_RUN else type(r).__name__ for r in results]


async def test_a_bad_record_of_a_batch_is_found_by_halving_and_its_key_stops_there() -> None:
    calls: list[list[int]] = []

    async def handle(numbers, contexts) -> None:
        calls.append(list(numbers))
        if 2 in numbers:
            raise ValueError("two")

    works = {"x": Work(handler=handle, batch=Batch(size=8))}
    results = await run(runner(works), entries(*[("a" if n % 2 == 0 else "b", f"x:{n}") for n in range(6)]))
    assert kinds(results) == ["done", "done", "Failed", "done", "not run", "done"]
    assert calls[0] == [0, 1, 2, 3, 4, 5]
    assert [2] in calls
    assert all(4 not in call for call in calls[1:]), "behind the failed record of its key"


async def test_neighbours_of_different_handlers_each_get_what_they_declared() -> None:
    seen: list[Any] = []

    async def many(numbers, contexts) -> None:
        seen.append(list(numbers))

    async def one(number, ctx) -> None:
        seen.append(number)

    works = {"x": Work(handler=many, batch=Batch(size=8)), "y": Work(handler=one)}
    results = await run(runner(works), entries(("a", "x:1"), ("b", "x:2"), ("c", "y:3"), ("d", "y:4"), ("e", "x:5")))
    assert kinds(results) == ["done"] * 5
    assert seen == [[1, 2], 3, 4, [5]]


async def test_a_key_stops_at_its_failure_also_across_handlers() -> None:
    ran: list[int] = []

    async def one(number, ctx) -> None:
        ran.append(number)
        raise ValueError("no")

    async def many(numbers, contexts) -> None:
        ran.extend(numbers)

    works = {"y": Work(handler=one), "x": Work(handler=many, batch=Batch(size=8))}
    results = await run(runner(works), entries(("a", "y:1"), ("a", "y:2"), ("a", "x:3"), ("b", "x:4")))
    assert kinds(results) == ["Failed", "not run", "not run", "done"]
    assert ran == [1, 4]


async def test_a_record_that_cannot_be_decoded_waits_behind_the_failed_one_of_its_key() -> None:
    async def fails(numbers, contexts) -> None:
        raise ValueError("no")

    works = {"x": Work(handler=fails, batch=Batch(size=8))}
    taken = runner(works, ignore_unknown=True)
    results = await run(taken, entries(("a", "x:1"), ("a", "x:?"), ("b", "x:?"), ("b", "x:2")))
    assert kinds(results) == ["Failed", "not run", "Failed", "not run"]
    results = await run(taken, entries(("a", "x:1"), ("a", "unknown:2"), ("b", "unknown:3")))
    assert kinds(results) == ["Failed", "not run", "done"]


async def test_a_blocked_batch_makes_the_first_record_of_each_key_wait() -> None:
    async def handle(numbers, contexts) -> None:
        raise TransientError("away")

    works = {"x": Work(handler=handle, batch=Batch(size=8))}
    results = await run(runner(works), entries(("a", "x:1"), ("a", "x:2"), ("b", "x:3")))
    assert kinds(results) == ["Blocked", "not run", "Blocked"]
    assert isinstance(results[0], Blocked)


@pytest.mark.parametrize(
    ("outcome", "final", "after", "said"),
    [
        (Retry("later", after=7.0), False, 7.0, "later"),
        (Retry(after=7.0), False, 7.0, "the handler asked to be run again"),
        (Reject("never"), True, None, "never"),
    ],
)
async def test_outcomes_are_values(outcome, final, after, said) -> None:
    async def handle(number, ctx) -> Any:
        return outcome

    (result,) = await run(runner({"x": Work(handler=handle)}), entries(("a", "x:1")))
    assert isinstance(result, Failed)
    assert (result.final, result.after, result.failure.message) == (final, after, said)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_that_cancels_itself_has_failed(waits: bool) -> None:
    async def handle(number, ctx) -> None:
        if waits:
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    (result,) = await run(runner({"x": Work(handler=handle)}), entries(("a", "x:1")))
    assert isinstance(result, Failed)
    assert "cancelled from inside" in result.failure.message


async def test_exceptions_that_a_policy_calls_final_are_never_retried() -> None:
    async def handle(number, ctx) -> None:
        raise (KeyError if number == 1 else ValueError)("x")

    work = Work(handler=handle, retry=RetryPolicy(final=(LookupError,)))
    results = [(await run(runner({"x": work}), entries(("a", f"x:{n}"))))[0] for n in (1, 2)]
    assert [r.final for r in results] == [True, False]
    assert [r.failure.classification for r in results] == ["final", "exhausted"]


async def test_a_plain_function_that_returns_an_awaitable_is_a_mistake_and_not_a_success() -> None:
    async def work(number, ctx) -> None: ...

    def handle(number, ctx) -> Any:
        return work(number, ctx)

    (result,) = await run(runner({"x": Work(handler=handle)}), entries(("a", "x:1")))
    assert isinstance(result, Failed)
    assert "declare it with 'async def'" in result.failure.message


async def test_a_type_nobody_handles_is_dead_in_a_queue_and_passed_over_in_a_topic() -> None:
    async def handle(number, ctx) -> Any:
        return Done(number)

    works = {"x": Work(handler=handle)}
    (dead,) = await run(runner(works), entries(("a", "z:1")))
    (passed,) = await run(runner(works, ignore_unknown=True), entries(("a", "z:1")))
    assert dead.failure.classification == "unknown-type"
    assert passed is SUCCEEDED


async def test_only_what_succeeded_is_completed() -> None:
    async def handle(number, ctx) -> None:
        if number == 1:
            raise ValueError("one")

    telemetry = Quiet()
    taken = runner({"x": Work(handler=handle)}, telemetry)
    for entry in entries(("a", "x:0"), ("b", "x:1"), ("c", "x:2")):
        await run(taken, (entry,))
    assert telemetry.completions == [0, 2]


async def test_a_row_of_a_key_is_run_until_one_fails() -> None:
    ran: list[int] = []

    async def handle(number, ctx) -> None:
        ran.append(number)
        if number == 1:
            raise ValueError("one")

    row = entries(*(("a", f"x:{n}") for n in range(4)))
    assert kinds(await run(runner({"x": Work(handler=handle)}), row)) == ["done", "Failed", "not run", "not run"]
    assert ran == [0, 1]


async def test_a_row_of_a_key_ends_with_the_first_that_has_to_wait() -> None:
    ran: list[int] = []

    async def handle(number, ctx) -> None:
        if number == 1:
            await asyncio.sleep(0)
        ran.append(number)

    row = entries(*(("a", f"x:{n}") for n in range(4)))
    assert kinds(await run(runner({"x": Work(handler=handle)}), row)) == ["done", "done", "not run", "not run"]
    assert ran == [0, 1]


async def test_records_of_a_row_see_nothing_of_each_others_context() -> None:
    note: ContextVar[int] = ContextVar("note", default=-1)
    seen: list[int] = []

    async def handle(number, ctx) -> None:
        seen.append(note.get())
        note.set(number)
        await asyncio.sleep(0) if number == 2 else None
        assert note.get() == number

    row = entries(*(("a", f"x:{n}") for n in range(3)))
    assert kinds(await run(runner({"x": Work(handler=handle)}), row)) == ["done"] * 3
    assert seen == [-1] * 3


async def test_no_run_begins_while_what_is_told_of_it_has_no_room() -> None:
    class Full(Quiet):
        full = True

        def __init__(self) -> None:
            super().__init__()
            self.stored = asyncio.Event()

        async def room(self) -> None:
            await self.stored.wait()

    begun: list[int] = []

    async def handle(number, ctx) -> None:
        begun.append(number)

    full = Full()
    running = asyncio.create_task(run(runner({"a": Work(handler=handle)}, full), entries(("k", "a:1"))))
    await asyncio.sleep(0)
    assert begun == []
    full.stored.set()
    assert kinds(await running) == ["done"]
    assert begun == [1]

"""Runs are begun in order with few tasks, and each is reported once."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from streams.engine.crew import Crew
from streams.engine.steps import begun

Note: contextvars.ContextVar[str] = contextvars.ContextVar("note", default="nothing")


class Log:
    """A crew whose runs are functions, and what it reported."""

    def __init__(self) -> None:
        self.ended: list[Any] = []
        self.errors: list[BaseException] = []
        self.changed = asyncio.Event()
        self.then: Any = lambda ended: None
        self.crew = Crew(lambda run: begun(run[0]()), self.report, self.fail)

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)
        self.changed.set()

    def report(self, ended: Any) -> None:
        self.ended += [results for _, results in ended]
        self.then(ended)
        self.changed.set()

    async def reached(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.ended) < count:
                self.changed.clear()
                await self.changed.wait()


def named(name: str, *gates: asyncio.Event) -> Any:
    async def work() -> list[str]:
        for gate in gates:
            await gate.wait()
        return [name]

    return (work,)


async def test_a_run_that_waits_does_not_keep_those_behind_it() -> None:
    log, gate = Log(), asyncio.Event()
    log.crew.take([named("slow", gate), named("b"), named("c")])
    await log.reached(2)
    assert log.ended == [["b"], ["c"]]
    await asyncio.sleep(0)  # the one that reported leaves
    assert len(log.crew) == 1, "only the run that waits needs a task"
    gate.set()
    await log.reached(3)
    assert log.ended[-1] == ["slow"]


async def test_a_run_that_waited_is_reported_although_others_were_reported_meanwhile() -> None:
    log, gates = Log(), [asyncio.Event() for _ in range(50)]
    log.crew.take([named(str(n), gate) for n, gate in enumerate(gates)])
    for n, gate in enumerate(gates):
        gate.set()
        log.crew.take([named(f"quick {n}")])
        await log.reached(2 * n + 2)
    assert sorted(map(str, log.ended)) == sorted(f"['{name}']" for n in range(50) for name in (n, f"quick {n}"))


async def test_what_a_handler_sets_in_its_context_is_not_seen_by_the_next() -> None:
    log, seen = Log(), []

    async def first() -> list[str]:
        Note.set("mine")
        await asyncio.sleep(0)
        seen.append(Note.get())
        return []

    async def second() -> list[str]:
        seen.append(Note.get())
        return []

    log.crew.take([(first,), (second,)])
    await log.reached(2)
    assert seen == ["nothing", "mine"]


async def test_a_time_out_inside_a_run_ends_only_that_run() -> None:
    log = Log()

    async def hurried() -> list[str]:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return ["timed out"]
        return ["not timed out"]

    log.crew.take([(hurried,), named("b")])
    await log.reached(2)
    assert log.ended == [["b"], ["timed out"]]


async def test_cancelling_ends_what_waits_and_reports_none_of_it() -> None:
    log, cleaned = Log(), []

    async def careful() -> list[str]:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)
        return []

    log.crew.take([(careful,), named("b")])
    await log.reached(1)
    await log.crew.cancel()
    assert cleaned == [True]
    assert log.ended == [["b"]]
    assert len(log.crew) == 0


async def test_an_error_that_is_no_result_is_told_of() -> None:
    log = Log()

    async def wrong() -> list[str]:
        raise AssertionError("an invariant")

    log.crew.take([(wrong,)])
    async with asyncio.timeout(10):
        await log.changed.wait()
    with pytest.raises(AssertionError, match="an invariant"):
        raise log.errors[0]


async def test_tasks_that_have_waited_take_the_next_runs() -> None:
    log, seen = Log(), set()

    async def waits() -> list[str]:
        seen.add(asyncio.current_task())
        await asyncio.sleep(0.001)
        return []

    log.then = lambda ended: log.crew.take([(waits,) for _ in ended] if len(log.ended) < 50 else [])
    log.crew.take([(waits,)] * 5)
    await log.reached(50)
    assert len(seen) < 25, "fifty runs, five at once"


async def test_a_run_that_cancels_its_own_task_as_it_ends_is_reported() -> None:
    log = Log()

    async def odd() -> list[str]:
        await asyncio.sleep(0)
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        return ["odd"]

    log.crew.take([(odd,)])
    await log.reached(1)
    log.crew.take([named("b")])
    await log.reached(2)
    assert log.ended == [["odd"], ["b"]]
    assert not log.errors

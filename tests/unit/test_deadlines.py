"""A run that takes too long is cancelled, and nobody else hears of it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from streams.engine.deadlines import Deadlines, RunTimeoutError

FOREVER = 3600.0


async def soon(seconds: float = 0.01) -> str:
    await asyncio.sleep(seconds)
    return "done"


async def stubborn() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "done all the same"
    raise AssertionError("nobody sets the event")


async def test_what_takes_too_long_is_cancelled_and_says_how_long_it_had() -> None:
    with pytest.raises(RunTimeoutError, match=re.escape("took longer than 0.01 s")):
        await Deadlines().limit(0.01, soon(FOREVER))
    assert await soon() == "done", "the task goes on as if nothing had happened"


async def test_what_ends_in_time_is_left_alone() -> None:
    assert await Deadlines().limit(FOREVER, soon()) == "done"


async def test_runs_of_one_length_each_have_their_own_deadline() -> None:
    deadlines, gate = Deadlines(), asyncio.Event()

    async def late() -> Any:
        await gate.wait()
        return await deadlines.limit(0.02, soon(FOREVER))

    first = asyncio.create_task(deadlines.limit(0.02, soon(FOREVER)))
    quick = asyncio.create_task(deadlines.limit(0.02, soon(0)))
    second = asyncio.create_task(late())
    with pytest.raises(RunTimeoutError):
        await first
    assert await quick == "done"
    gate.set()
    with pytest.raises(RunTimeoutError):
        await second


async def test_a_longer_time_does_not_hold_up_a_shorter_one() -> None:
    deadlines = Deadlines()
    long = asyncio.create_task(deadlines.limit(FOREVER, soon(FOREVER)))
    with pytest.raises(RunTimeoutError):
        await deadlines.limit(0.01, soon(FOREVER))
    assert not long.done()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_what_somebody_else_cancels_is_no_time_out() -> None:
    task = asyncio.create_task(Deadlines().limit(FOREVER, soon(FOREVER)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_comes_with_the_time_out_is_heard() -> None:
    async def run() -> Any:
        asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)  # type: ignore[union-attr]
        return await Deadlines().limit(0.01, soon(FOREVER))

    task = asyncio.create_task(run())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_run_that_ends_although_it_was_cancelled_has_ended() -> None:
    assert await Deadlines().limit(0.01, stubborn()) == "done all the same"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_error_that_comes_of_the_time_out_is_the_runs_own() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("half done")

    with pytest.raises(ValueError, match="half done"):
        await Deadlines().limit(0.01, fails())

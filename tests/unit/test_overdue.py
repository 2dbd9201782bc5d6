"""What nobody acknowledges is given up in time; what is done is left alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.adapters.kafka.overdue import Overdue


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def test_each_is_given_up_with_its_own_error_once_its_time_is_up() -> None:
    overdue, first, second = Overdue(0.01), future(), future()
    overdue.add(first, lambda: ValueError("the first"))
    overdue.add(second, lambda: ValueError("the second"))
    with pytest.raises(ValueError, match="the first"):
        await first
    with pytest.raises(ValueError, match="the second"):
        await second


async def test_one_that_comes_after_all_were_given_up_is_given_up_as_well() -> None:
    overdue = Overdue(0.01)
    for name in ("once", "again"):
        waiting = future()
        overdue.add(waiting, lambda name=name: ValueError(name))
        with pytest.raises(ValueError, match=name):
            await waiting


async def test_what_was_acknowledged_stays_so_and_does_not_hide_what_was_not() -> None:
    overdue, done, cancelled, waiting = Overdue(0.01), future(), future(), future()
    for each in (done, cancelled, waiting):
        overdue.add(each, TimeoutError)
    done.set_result("stored")
    cancelled.cancel()
    with pytest.raises(TimeoutError):
        await waiting
    assert done.result() == "stored"
    assert cancelled.cancelled()

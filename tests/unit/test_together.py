"""Who waits while a call is under way shares the next one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from streams.adapters.together import Together

if TYPE_CHECKING:
    from collections.abc import Sequence


class Server:
    """Doubles numbers, one call at a time when it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = asyncio.Event()

    async def double(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        await self.go.wait()
        if 13 in numbers:
            raise ValueError("13")
        return [2 * number for number in numbers]


async def test_those_who_come_during_a_call_share_the_next_one_and_each_gets_its_own_answer() -> None:
    server = Server()
    together = Together(server.double, most=10)
    first = asyncio.create_task(together.ask(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(together.ask(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    server.go.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert server.calls == [[1], [2, 3, 4]]


async def test_a_call_has_no_more_than_the_most() -> None:
    server = Server()
    together = Together(server.double, most=2)
    server.go.set()
    assert await asyncio.gather(*map(together.ask, range(5))) == [0, 2, 4, 6, 8]
    assert server.calls == [[0, 1], [2, 3], [4]]


async def test_a_call_that_fails_fails_for_those_of_it_alone() -> None:
    server = Server()
    together = Together(server.double, most=2)
    server.go.set()
    found = await asyncio.gather(*map(together.ask, (1, 13, 3)), return_exceptions=True)
    assert [str(each) for each in found] == ["13", "13", "6"]


async def test_one_who_gave_up_keeps_no_other_from_an_answer() -> None:
    server = Server()
    together = Together(server.double, most=10)
    waiting = [asyncio.create_task(together.ask(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    server.go.set()
    assert await waiting[1] == 4
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]

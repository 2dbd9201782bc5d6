"""The outbox writes in turns, in order, before those who flush it go on, and says when it is full."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from streams.engine import outbox as module
from streams.engine.outbox import Outbox
from streams.job import TransientError
from streams.ports import Message, RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

REFUSED = b"refused"


class Log:
    """A publisher that keeps what it stored, fails as often as told, and lets calls through a gate."""

    def __init__(self) -> None:
        self.stored: list[Any] = []
        self.failures = 0
        self.gate = asyncio.Semaphore(1_000)
        self.asked = asyncio.Event()

    async def publish_all(self, messages: Sequence[Message]) -> None:
        self.asked.set()
        await self.gate.acquire()
        if self.failures:
            self.failures -= 1
            raise TransientError("away")
        if any(message.value == REFUSED for message in messages):
            raise RecordRefusedError("too large")
        self.stored += [message.value for message in messages]

    async def publish(self, message: Message) -> None:
        if message.value == REFUSED:
            raise RecordRefusedError("too large")
        self.stored.append(message.value)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def outbox(log: Log, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Outbox]:
    monkeypatch.setattr(module, "_AGAIN", 0)
    made = Outbox(log, room=100)
    made.start()
    yield made
    await made.stop()


def put(outbox: Outbox, *values: Any, size: int = 1) -> None:
    for value in values:
        outbox.put(lambda value=value: _made(value), size)


async def _made(value: Any) -> Message:
    if isinstance(value, Exception):
        raise value
    return Message("t", b"k", value)


async def test_a_flush_returns_when_everything_put_before_is_stored(outbox: Outbox, log: Log) -> None:
    put(outbox, *range(250))
    await outbox.flush()
    assert log.stored == list(range(250))
    await outbox.flush()


async def test_a_flush_does_not_wait_for_what_is_put_meanwhile(outbox: Outbox, log: Log) -> None:
    log.gate = asyncio.Semaphore(0)
    put(outbox, 1)
    first = asyncio.create_task(outbox.flush())
    await log.asked.wait()
    put(outbox, 2)
    second = asyncio.create_task(outbox.flush())
    await asyncio.sleep(0)
    log.gate.release()
    await first
    assert log.stored == [1]
    assert not second.done()
    log.gate.release()
    await second
    assert log.stored == [1, 2]


async def test_what_was_not_acknowledged_is_sent_again_in_order(outbox: Outbox, log: Log) -> None:
    log.failures = 3
    put(outbox, 1, 2)
    await outbox.flush()
    put(outbox, 3)
    await outbox.flush()
    assert log.stored == [1, 2, 3]


async def test_records_nobody_takes_are_left_out_and_the_others_stored(outbox: Outbox, log: Log) -> None:
    put(outbox, 1, REFUSED, ValueError("no Avro"), 2)
    await outbox.flush()
    assert log.stored == [1, 2]


async def test_a_record_that_waits_for_the_registry_is_stored_when_it_is_back(outbox: Outbox, log: Log) -> None:
    tries = iter((TransientError("registry away"), 1))
    outbox.put(lambda: _made(next(tries)), 1)
    await outbox.flush()
    assert log.stored == [1]


async def test_it_is_full_until_what_it_holds_is_stored(outbox: Outbox, log: Log) -> None:
    log.gate = asyncio.Semaphore(0)
    put(outbox, 1, size=60)
    await log.asked.wait()
    assert not outbox.full
    put(outbox, 2, size=30)
    outbox.weigh(11)
    assert outbox.full
    log.gate.release()
    log.gate.release()
    await outbox.flush()
    assert not outbox.full
    assert log.stored == [1, 2]

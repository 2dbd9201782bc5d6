"""Writes an operation's records in order, many at once, at a given rate.

Invariant: two records of one key are never on their way together, so that none can overtake another on a retry.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from streams.core.headers import HELD, HOLD, text
from streams.core.replay import TokenBucket, Where, discard_headers, replay_headers
from streams.ports import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from streams.deadletters.entry import Family
    from streams.deadletters.ledger import Operation
    from streams.ports import Position, Publisher, Record

IN_FLIGHT = 200


class Clock(NamedTuple):
    """Time as the process sees it: seconds since the epoch, seconds since some moment, and waiting."""

    time: Callable[[], float]
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


class Writer:
    """Writes to one publisher; after an error nothing more is sent.

    Args:
        publisher: Takes the records.
        clock: Paces them.
        rate: Records per second, 0 for no limit.
        alive: Awaited between records; raises to stop.
    """

    def __init__(
        self, publisher: Publisher, clock: Clock, *, rate: float, alive: Callable[[], Awaitable[None]]
    ) -> None:
        self._publisher = publisher
        self._clock = clock
        self._alive = alive
        self._bucket = TokenBucket(rate, clock.monotonic())
        self._keys: set[bytes] = set()
        self._pending: list[Awaitable[Position]] = []

    async def write(self, message: Message) -> None:
        """Send when it is its turn; returns before the acknowledgement."""
        await self._pace()
        await self._alive()
        if len(self._pending) >= IN_FLIGHT or (message.key is not None and message.key in self._keys):
            await self.settle()
        self._pending.append(await self._publisher.send(message))
        if message.key is not None:
            self._keys.add(message.key)

    async def settle(self) -> None:
        """Wait until everything sent is acknowledged.

        Raises:
            TransientError: The broker did not acknowledge in time.
        """
        pending, self._pending = self._pending, []
        self._keys.clear()
        for answer in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer

    async def _pace(self) -> None:
        wait = self._bucket.take(self._clock.monotonic())
        if wait:
            await self.settle()
        while wait > 0:
            nap = min(wait, 1.0)
            await self._clock.sleep(nap)
            await self._alive()
            wait -= nap


def messages(
    operation: Operation, family: Family, record: Record, twins: tuple[int, ...]
) -> Iterator[tuple[int, Message]]:
    """What settles a dead letter, each message with the offset it stands for: its copy, and what frees its key.

    Args:
        operation: A discard writes for held keys only; for the others the ledger says enough.
        family: The record's.
        record: The dead letter.
        twins: Offsets of further copies of the dead letter that hold the key.
    """
    to_free = twins
    if operation.kind == "replay":
        # A client cannot write a record with neither key nor value.
        value = b"" if record.key is None and record.value is None else record.value
        headers = replay_headers(record.headers, Where(record.topic, record.partition), record.offset, operation.id)
        yield record.offset, Message(family.replays, record.key, value, headers, record.partition)
    elif text(record.headers, HOLD) == HELD:
        to_free = (record.offset, *twins)
    if record.key is not None:
        for offset in to_free:
            headers = discard_headers(record.headers, offset, operation.id)
            yield offset, Message(family.replays, record.key, None, headers, record.partition)

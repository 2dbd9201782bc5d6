"""Records told about the work (job statuses, resolved dead letters): stored in order, before the commit of that work.

They are written in turns: what was put while the last turn was under way, and for ``_LINGER`` seconds more.
Invariant: :meth:`Outbox.flush` returns only when everything put before is stored, whatever is put meanwhile; a record
the broker or the codec will never take is logged and left out, since it must not stop the work it tells about.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from schemas.errors import RegistryUnavailableError
from streams.job import TransientError
from streams.ports import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.ports import Message, Publisher

    Make = Callable[[], Awaitable[Message]]

log = structlog.get_logger(__name__)

_LINGER = 0.02  # seconds; a batch costs the same however few records it has
_STRETCH = 100  # records made before others have their turn of the loop
_AGAIN = 0.5  # seconds between two tries while the broker or the registry is away
_AWAY = (TransientError, RegistryUnavailableError, OSError)


class _Turn:
    """What is stored together."""

    __slots__ = ("makes", "size", "stored")

    def __init__(self) -> None:
        self.makes: list[Make] = []
        self.size = 0
        self.stored = asyncio.Event()


class Outbox:
    """Publishes what is put into it.

    Args:
        room: Bytes it may hold before it is :attr:`full`.
    """

    def __init__(self, publisher: Publisher, *, room: int = 8_388_608) -> None:
        self._publisher = publisher
        self._room = room
        self._next = _Turn()
        self._under_way = _Turn()
        self._filled = asyncio.Event()
        self._hurried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._publish_all())

    async def stop(self) -> None:
        """Stop; what is not stored yet belongs to work that no commit covers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def full(self) -> bool:
        """Whether nothing more should begin that is told of here, until :meth:`flush` returns."""
        return self._next.size + self._under_way.size > self._room

    def put(self, make: Make, size: int) -> None:
        """Queue a record of about so many bytes; ``make`` may wait for the registry."""
        if not self._next.makes:
            self._filled.set()
        self._next.makes.append(make)
        self._next.size += size

    def weigh(self, size: int) -> None:
        """Something that was put has grown."""
        (self._next if self._next.makes else self._under_way).size += size

    async def flush(self) -> None:
        """Wait until everything put before is stored."""
        turn = self._next if self._next.makes else self._under_way
        if turn.makes:
            self._hurried.set()
            await turn.stored.wait()

    async def _publish_all(self) -> None:
        while True:
            await self._filled.wait()
            await self._linger()
            turn = self._under_way = self._next
            self._next = _Turn()
            self._filled.clear()
            self._hurried.clear()
            await self._store(await self._messages(turn.makes))
            self._under_way = _Turn()
            turn.stored.set()

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(_LINGER):
                await self._hurried.wait()
        except TimeoutError:
            return

    async def _messages(self, makes: list[Make]) -> list[Message]:
        made: list[Message] = []
        for number, make in enumerate(makes):
            message = await self._made(make)
            if message is not None:
                made.append(message)
            if number % _STRETCH == 0:
                await asyncio.sleep(0)
        return made

    async def _made(self, make: Make) -> Message | None:
        while True:
            try:
                return await make()
            except ValueError as error:
                log.exception("left out of the history", reason=str(error))
                return None
            except _AWAY as error:
                await self._wait(error)

    async def _store(self, messages: list[Message]) -> None:
        """Store all; after a missing acknowledgement all are sent again, in the same order."""
        while messages:
            try:
                await self._publisher.publish_all(messages)
            except RecordRefusedError:
                await self._store_each(messages)
            except _AWAY as error:
                await self._wait(error)
                continue
            return

    async def _store_each(self, messages: list[Message]) -> None:
        """Find out which one is refused."""
        for message in messages:
            await self._store_one(message)

    async def _store_one(self, message: Message) -> None:
        while True:
            try:
                await self._publisher.publish(message)
            except RecordRefusedError as error:
                log.exception("left out of the history", reason=str(error))
            except _AWAY as error:
                await self._wait(error)
                continue
            return

    async def _wait(self, error: Exception) -> None:
        log.warning("cannot store what was told about the work yet", reason=str(error))
        await asyncio.sleep(_AGAIN)

"""Records told about the work (job statuses, resolved dead letters): stored in order, before the commit of that work.

Invariant: :meth:`Outbox.flush` returns only when everything put before is stored; a record the broker or the codec
will never take is logged and left out, since it must not stop the work it tells about.
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

    from streams.ports import Message, Position, Publisher

    Make = Callable[[], Awaitable[Message]]

log = structlog.get_logger(__name__)

# Between two tries while the broker or the registry is away.
_AGAIN = 0.5


class Outbox:
    """Publishes what is put into it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._queue: asyncio.Queue[Make] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.create_task(self._publish_all())

    async def stop(self) -> None:
        """Stop; what is not stored yet belongs to work that no commit covers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def put(self, make: Make) -> None:
        """Queue a record; ``make`` may wait for the registry."""
        self._queue.put_nowait(make)

    async def flush(self) -> None:
        """Wait until everything put before is stored."""
        await self._queue.join()

    async def _publish_all(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            count = len(batch)
            while batch:
                batch = batch[await self._store(batch) :]
            for _ in range(count):
                self._queue.task_done()

    async def _store(self, batch: list[Make]) -> int:
        """Store from the first on; how many are done with. Those sent behind a lost one are sent again."""
        stored = 0
        try:
            pending = [await self._send(make) for make in batch]
            for acknowledged in pending:
                if acknowledged is not None:
                    await acknowledged
                stored += 1
        except (TransientError, RegistryUnavailableError, OSError) as error:
            log.warning("cannot store what was told about the work yet", reason=str(error))
            await asyncio.sleep(_AGAIN)
        return stored

    async def _send(self, make: Make) -> Awaitable[Position] | None:
        try:
            return await self._publisher.send(await make())
        except (ValueError, RecordRefusedError) as error:
            log.exception("left out of the history", reason=str(error))
            return None

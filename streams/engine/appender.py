"""Writes moved records in order, one batch under way per target partition.

Invariant: of two records appended to one target the later is never stored without the earlier; after a missing
acknowledgement nothing more is written until :meth:`Appender.reset`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from streams.job import TransientError
from streams.ports import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.core.commands import Append, DeadLetter
    from streams.ports import BatchWriter, Message, TopicPartition

    Move = Append | DeadLetter

log = structlog.get_logger(__name__)

_MOST = 500  # moves that are offered to one batch: thousands may be queued, and a batch takes what fits into it


class Appender:
    """Feeds a batch writer.

    Args:
        acknowledged: Called with each move and the offset it was stored at, in order per target.
        failed: Called once when a batch got no acknowledgement.
    """

    def __init__(
        self, writer: BatchWriter, acknowledged: Callable[[list[tuple[Move, int]]], None], failed: Callable[[], None]
    ) -> None:
        self._writer = writer
        self._acknowledged = acknowledged
        self._failed = failed
        self._queues: dict[TopicPartition, deque[tuple[Move, Message]]] = {}
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._broken = False

    def append(self, target: TopicPartition, move: Move, message: Message) -> None:
        """Queue one record behind those appended to the same target before."""
        self._queues.setdefault(target, deque()).append((move, message))
        if target not in self._tasks and not self._broken:
            self._tasks[target] = asyncio.create_task(self._drain(target))

    async def reset(self) -> None:
        """Forget everything queued and under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queues, self._tasks, self._broken = {}, {}, False

    async def _drain(self, target: TopicPartition) -> None:
        queue = self._queues[target]
        try:
            while queue and not self._broken:
                offsets = await self._writer.write(target, [message for _, message in islice(queue, _MOST)])
                self._acknowledged([(queue.popleft()[0], offset) for offset in offsets])
        except (TransientError, RecordRefusedError) as error:
            log.warning("cannot move records; the ownership is built anew", topic=target.topic, reason=str(error))
            if not self._broken:
                self._broken = True
                self._failed()
        finally:
            self._tasks.pop(target, None)

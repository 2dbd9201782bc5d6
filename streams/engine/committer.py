"""Commits what the core says, in the background, all partitions in one request.

Invariant: one commit under way at a time; an answer that comes after the ownership ended touches nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from streams.job import TransientError
from streams.ports import Committed, OwnershipLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.core.commands import Commit
    from streams.core.group import Core
    from streams.engine.family import Family
    from streams.engine.telemetry import Telemetry
    from streams.ports import GroupConsumer

log = structlog.get_logger(__name__)


class Owner(Protocol):
    """Whose core is committed."""

    core: Core
    epoch: int

    def pump(self) -> None:
        """Carry out what the core wants done now."""


class Committer:
    """Makes the commits of one engine.

    Args:
        patience: Seconds until a commit without an answer counts as failed. aiokafka would try for ever, and a
            hand-over of partitions must not wait that long.
    """

    def __init__(
        self,
        owner: Owner,
        family: Family,
        consumer: GroupConsumer,
        telemetry: Telemetry,
        clock: Callable[[], float],
        patience: float,
    ) -> None:
        self._owner = owner
        self._family = family
        self._consumer = consumer
        self._telemetry = telemetry
        self._clock = clock
        self._patience = patience
        self._lock = asyncio.Lock()

    async def run(self, interval: float) -> None:
        """Commit every ``interval`` seconds what has changed."""
        while True:
            await asyncio.sleep(interval)
            await self.commit()

    async def commit(self) -> None:
        """Commit once, if anything changed."""
        async with self._lock:
            epoch = self._owner.epoch
            request = self._owner.core.commit()
            if request is None:
                return
            started, result = time.monotonic(), "failed"
            try:
                result = await self._send(request)
            finally:  # cancelled half way, it may or may not be stored: made anew
                self._telemetry.committed(result, time.monotonic() - started)
                if epoch == self._owner.epoch:
                    self._owner.core.committed(acknowledged=result == "ok", now=self._clock())
                    self._owner.pump()

    async def _send(self, request: Commit) -> str:
        offsets = {self._family.place(*place): Committed(*at) for place, at in request.offsets.items()}
        try:
            async with asyncio.timeout(self._patience):
                await self._telemetry.flush()
                with self._telemetry.committing(self._family.source):
                    await self._consumer.commit(offsets)
        except OwnershipLostError as error:
            log.warning("the commit came too late; the partitions are somebody else's", reason=str(error))
            return "lost"
        except (TransientError, TimeoutError) as error:
            log.warning("the commit failed and is made anew", reason=str(error) or "no answer in time")
            return "failed"
        return "ok"

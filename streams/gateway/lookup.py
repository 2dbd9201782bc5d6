"""Finds a job, however far the projection is behind.

Invariant: None means that no status of this id was acknowledged before the question was asked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streams.door import ProblemError

if TYPE_CHECKING:
    from streams.door import JobHistory, Progress
    from streams.history import JobRow

PATIENCE = 3.0  # seconds
_INTERVAL = 0.02


class Lookup:
    """Reads the history, and on a miss waits until it has come to where the topic ended when the question was asked.

    Args:
        patience: Seconds until a history that is slow or behind becomes a problem.
    """

    def __init__(self, history: JobHistory, progress: Progress, *, patience: float = PATIENCE) -> None:
        self._history = history
        self._progress = progress
        self._patience = patience

    async def find(self, job_id: str, tenant: str | None = None) -> JobRow | None:
        """The job (of this tenant), or None if there is none.

        Raises:
            ProblemError: The history is too far behind to know.
            TransientError: The database or the broker is away.
        """
        try:
            async with asyncio.timeout(self._patience):
                return await self._history.find(job_id, tenant) or await self._after_catching_up(job_id, tenant)
        except TimeoutError:
            detail = "The history of jobs is slow, or behind and does not know this id yet; ask again in a moment."
            raise ProblemError("unavailable", detail, retry_after=1) from None

    async def _after_catching_up(self, job_id: str, tenant: str | None) -> JobRow | None:
        ends = await self._progress.ends()  # of all: without a tenant it is not known where its statuses are
        while True:
            # In this order: what the group finished before is in the database now.
            caught_up = await self._progress.reached(ends)
            found = await self._history.find(job_id, tenant)
            if found is not None or caught_up:
                return found
            await asyncio.sleep(_INTERVAL)

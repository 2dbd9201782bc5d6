"""Replays and discards that this gateway carries out, beside its requests.

Invariant: what is stopped with the process can be resumed, here or elsewhere: the ledger says how far it is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from streams.deadletters.reading import DeadLetterError
from streams.door import ProblemError
from streams.job import TransientError
from streams.ports import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.deadletters.ledger import Operation
    from streams.deadletters.operation import Operations
    from streams.deadletters.running import Report

log = structlog.get_logger(__name__)

AT_ONCE = 4
_REMEMBERED = 100  # ended ones


@dataclass(slots=True)
class Progress:
    """How far an operation is in this process; ``problem``: why it stopped before its end."""

    done: int = 0
    report: Report | None = None
    problem: str | None = None

    @property
    def running(self) -> bool:
        """Whether it is under way here."""
        return self.report is None and self.problem is None

    def advance(self, entries: int) -> None:
        """So many more were dealt with."""
        self.done += entries


class DltWork:
    """See the module."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Progress] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self) -> None:
        """See that there is room for another one.

        Raises:
            ProblemError: There is none.
        """
        if len(self._tasks) >= AT_ONCE:
            detail = "This gateway carries out as many replays and discards as it may; try again later."
            raise ProblemError("overloaded", detail, retry_after=5)

    def begin(
        self, operations: Operations, operation_id: str, rate: float, ready: Callable[[], Awaitable[Operation]]
    ) -> None:
        """Carry an operation out that is ``ready`` in a while; nothing where that is done here already."""
        if (known := self._known.get(operation_id)) is not None and known.running:
            return
        progress = self._known[operation_id] = Progress()
        self._known.move_to_end(operation_id)
        while len(self._known) > _REMEMBERED + AT_ONCE:
            self._known.popitem(last=False)
        task = asyncio.create_task(self._carry_out(operations, operation_id, rate, ready, progress))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def progress(self, operation_id: str) -> Progress | None:
        """How far it is here; None where it was never worked on here."""
        return self._known.get(operation_id)

    async def stop(self) -> None:
        """Stop all of them where they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    async def _carry_out(
        operations: Operations,
        operation_id: str,
        rate: float,
        ready: Callable[[], Awaitable[Operation]],
        progress: Progress,
    ) -> None:
        try:
            operation = await ready()
            progress.report = await operations.run(operation, rate=rate, progress=progress.advance)
        except (DeadLetterError, RecordRefusedError) as error:
            progress.problem = str(error)
        except TransientError as error:
            log.warning("an operation on dead letters stopped", operation=operation_id, reason=str(error))
            progress.problem = "the broker did not acknowledge: resume it"
        except Exception:
            log.exception("an operation on dead letters failed", operation=operation_id)
            progress.problem = "something went wrong: see the gateway's log, then resume it"
            raise

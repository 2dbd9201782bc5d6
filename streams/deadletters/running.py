"""One run of an operation: its writes, and the signs of life that keep others from working on it.

Invariant: what an earlier run wrote is never written again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from streams.core.replay import Where
from streams.deadletters.reading import DeadLetterError
from streams.deadletters.writing import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.deadletters.entry import Family
    from streams.deadletters.ledger import Claim, Ledger, Operation
    from streams.deadletters.reading import DeadLetters
    from streams.deadletters.writing import Clock, Writer
    from streams.ports import Publisher, Record

BEAT = 2.0  # seconds between signs of life


class Report(NamedTuple):
    """Entries dealt with in this run and written by earlier ones; ``expired``: the log has deleted the dead letter."""

    done: int
    before: int
    expired: int


class Pulse:
    """Shows that the operation is worked on, and stops it where somebody else took it over."""

    def __init__(
        self, letters: DeadLetters, publisher: Publisher, clock: Clock, operation: Operation, ledger: Ledger
    ) -> None:
        self.operation = operation
        self._letters = letters
        self._publisher = publisher
        self._clock = clock
        self._ledger = ledger
        self._last = clock.monotonic()

    async def beat(self) -> None:
        """Called between any two records; does something every ``BEAT`` seconds.

        Raises:
            DeadLetterError: Somebody else took it over.
        """
        if self._clock.monotonic() - self._last < BEAT:
            return
        await self._letters.refresh(self._ledger)
        current = self._ledger.operations[self.operation.id]
        if (current.beat, current.by) != (self.operation.beat, self.operation.by):
            raise DeadLetterError(f"{current.name} was taken over by {current.by}")
        self.operation = replace(self.operation, beat=self.operation.beat + 1)
        await self._publisher.publish(self.operation.message)
        self._last = self._clock.monotonic()


class Run:
    """One run over an operation's claims."""

    def __init__(
        self, operation: Operation, letters: DeadLetters, writer: Writer, written: Mapping[Where, set[int]]
    ) -> None:
        self._operation = operation
        self._letters = letters
        self._writer = writer
        self._written = written
        self.report = Report(0, 0, 0)

    async def work(self, claim: Claim, progress: Callable[[int], None]) -> None:
        """Write a claim's entries, and wait for their acknowledgement."""
        family = self._letters.family(claim.where.topic)
        written = self._written.get(Where(family.replays, claim.where.partition), set())
        todo = [offset for offset in claim.offsets if not {offset, *claim.twins.get(offset, ())} <= written]
        done = 0
        async for record in self._letters.records(claim.where, todo):
            await self._write(family, record, claim.twins.get(record.offset, ()), written)
            done += 1
            progress(1)
        await self._writer.settle()
        progress(len(claim.offsets) - done)
        before = len(claim.offsets) - len(todo)
        self.report = Report(
            self.report.done + done, self.report.before + before, self.report.expired + len(todo) - done
        )

    async def _write(self, family: Family, record: Record, twins: tuple[int, ...], written: set[int]) -> None:
        for stands_for, message in messages(self._operation, family, record, twins):
            if stands_for not in written:
                await self._writer.write(message)

"""Bugs in what a process keeps when partitions move, and in what it counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streams.core.commands import SUCCEEDED
from streams.core.track import Track
from streams.engine.deadlines import RunTimeoutError
from streams.engine.engine import Engine
from streams.engine.runner import Runner
from streams.engine.tracker import Tracker
from streams.engine.verdicts import Verdicts

if TYPE_CHECKING:
    from tests.simulation.mutants.patch import Patch


def keep_prefetched_records_over_a_rebalance(patch: Patch) -> None:
    def make_poll(original: Any) -> Any:
        async def _poll(self: Engine) -> Any:
            batches = await original(self)
            if batches:
                self.__dict__["prefetched"] = batches
            return batches

        return _poll

    def make_take_over(original: Any) -> Any:
        async def _take_over(self: Engine) -> None:
            await original(self)
            for (topic, partition), records in self.__dict__.pop("prefetched", {}).items():
                self.core.polled(partition, self._family.shelves[topic], records, self._clock())

        return _take_over

    patch.replace(Engine, "_poll", make_poll)
    patch.replace(Engine, "_take_over", make_take_over)


def take_over_what_was_revoked_meanwhile(patch: Patch) -> None:
    def make(original: Any) -> Any:
        async def _give_up_ownership(self: Engine, lost: bool = False) -> None:
            waiting = self._assigned.is_set()
            await original(self, lost)
            if waiting:
                self._assigned.set()

        return _give_up_ownership

    patch.replace(Engine, "_give_up_ownership", make)


def count_a_cancelled_run_as_done(patch: Patch) -> None:
    def make(original: Any) -> Any:
        async def _outcome(self: Runner, calls: Any, work: Any, started: float) -> Any:
            try:
                return await original(self, calls, work, started)
            except asyncio.CancelledError:
                return SUCCEEDED

        return _outcome

    patch.replace(Runner, "_outcome", make)


def count_a_failed_run_as_done_when_its_time_is_up(patch: Patch) -> None:
    def make(original: Any) -> Any:
        def raised(self: Verdicts, call: Any, error: Exception) -> Any:
            return SUCCEEDED if isinstance(error, RunTimeoutError) else original(self, call, error)

        return raised

    patch.replace(Verdicts, "raised", make)


def run_what_was_cancelled(patch: Patch) -> None:
    """An order stops what runs, and is forgotten by what does not run yet."""
    patch.replace(Runner, "_withdrawn", lambda original: lambda self, call: False)


def tell_of_a_cancelled_job_too_late(patch: Patch) -> None:
    """What was cancelled ends without a word."""
    patch.replace(Tracker, "cancelled", lambda original: lambda self, entry, context, *, ran: None)


def keep_a_counter_of_bytes_that_leaks(patch: Patch) -> None:
    """A record that moved away is not taken off the count that is kept beside what is held."""

    def make(original: Any) -> Any:
        def finish(self: Track, offset: int) -> None:
            leaked = self.pending[offset].size if self.pending[offset].attempts else 0
            original(self, offset)
            self.held_bytes += leaked

        return finish

    patch.replace(Track, "finish", make)

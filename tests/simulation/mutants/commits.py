"""Bugs in what is committed, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.core import commit_map
from streams.core.commands import DeadLetter
from streams.core.lanes import Lanes
from streams.core.track import Track
from streams.engine.committer import Committer
from streams.engine.telemetry import Telemetry

if TYPE_CHECKING:
    from tests.simulation.mutants.patch import Patch


def commit_before_the_work_ends(patch: Patch) -> None:
    def make(original: Any) -> Any:
        def snapshot(self: Track) -> Any:
            kept = self.pending
            self.pending = {at: entry for at, entry in kept.items() if entry.lane is None or not entry.lane.running}
            try:
                return original(self)
            finally:
                self.pending = kept

        return snapshot

    patch.replace(Track, "snapshot", make)


def commit_the_maximum_over_a_gap(patch: Patch) -> None:
    def make(original: Any) -> Any:
        def snapshot(self: Track) -> Any:
            original(self)
            running = [at for at, entry in self.pending.items() if at == self.position - 1]
            highest = running[0] if running else self.position
            return highest, commit_map.encode(highest, (), self.fence)[0], True

        return snapshot

    patch.replace(Track, "snapshot", make)


def acknowledge_late_after_a_revoke(patch: Patch) -> None:
    """What an ownership could not commit is sent by the next one: the late acknowledgement is believed."""

    def make(original: Any) -> Any:
        async def _send(self: Committer, request: Any) -> str:
            late = self.__dict__.pop("late", None)
            if late is not None:
                await original(self, late)
            result = await original(self, request)
            if result != "ok":
                self.__dict__["late"] = request
            return result

        return _send

    patch.replace(Committer, "_send", make)


def store_the_dead_letter_after_the_commit(patch: Patch) -> None:
    """The record is finished when it is given up, not when its dead letter is stored."""

    def make_give_up(original: Any) -> Any:
        def _give_up(self: Lanes, entry: Any, result: Any) -> None:
            original(self, entry, result)
            if entry.track is not self.dlt:
                entry.track.finish(entry.offset)

        return _give_up

    def make_appended(original: Any) -> Any:
        def appended(self: Lanes, command: Any, offset: int, now: float) -> None:
            if isinstance(command, DeadLetter) and command.entry.track is not self.dlt:
                command.entry.track.hold(command.entry)
            original(self, command, offset, now)

        return appended

    patch.replace(Lanes, "_give_up", make_give_up)
    patch.replace(Lanes, "appended", make_appended)


def commit_before_what_is_told_is_stored(patch: Patch) -> None:
    def make(_: Any) -> Any:
        async def flush(self: Telemetry) -> None:
            pass

        return flush

    patch.replace(Telemetry, "flush", make)

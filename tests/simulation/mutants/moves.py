"""Bugs in where records go, and when they run there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.core import headers, lanes, replay, restore
from streams.core.commands import DeadLetter
from streams.core.lanes import Lanes
from streams.core.outstanding import Outstanding
from streams.engine import takeover

if TYPE_CHECKING:
    from tests.simulation.mutants.patch import Patch


def follow_into_the_wrong_level(patch: Patch) -> None:
    def make(_: Any) -> Any:
        def lowest_above(self: Outstanding, level: Any, key: Any) -> Any:
            return self.top(key)

        return lowest_above

    patch.replace(Outstanding, "lowest_above", make)


def run_a_moved_record_before_its_origin_is_committed(patch: Patch) -> None:
    def make(_: Any) -> Any:
        def _covered(self: Lanes, entry: Any) -> bool:
            return True

        return _covered

    patch.replace(Lanes, "_covered", make)


def move_before_a_commit_covers_what_ran(patch: Patch) -> None:
    def make(_: Any) -> Any:
        def _send(self: Lanes, move: Any) -> None:
            self.commands.append(move)

        return _send

    patch.replace(Lanes, "_send", make)


def ignore_due_times(patch: Patch) -> None:
    def make(original: Any) -> Any:
        def parse_moved(record_headers: Any) -> Any:
            return original(record_headers)._replace(due=0.0)

        return parse_moved

    patch.replace(lanes, "parse_moved", make)


def let_a_key_go_on_before_its_dead_letter_is_stored(patch: Patch) -> None:
    def make_give_up(original: Any) -> Any:
        def _give_up(self: Lanes, entry: Any, result: Any) -> None:
            original(self, entry, result)
            entry.lane.blocked -= 1

        return _give_up

    def make_appended(original: Any) -> Any:
        def appended(self: Lanes, command: Any, offset: int, now: float) -> None:
            if isinstance(command, DeadLetter):
                command.entry.lane.blocked += 1
            original(self, command, offset, now)

        return appended

    patch.replace(Lanes, "_give_up", make_give_up)
    patch.replace(Lanes, "appended", make_appended)


def move_a_record_twice_after_a_crash(patch: Patch) -> None:
    def make(_: Any) -> Any:
        def _drop_lower_copies(shelves: Any, tracks: Any) -> None:
            pass

        return _drop_lower_copies

    patch.replace(restore, "_drop_lower_copies", make)


def accept_what_a_zombie_wrote(patch: Patch) -> None:
    def make(_: Any) -> Any:
        def _pass_over_zombies(shelves: Any, tracks: Any) -> None:
            pass

        return _pass_over_zombies

    patch.replace(restore, "_pass_over_zombies", make)


def replay_into_the_lowest_level(patch: Patch) -> None:
    def make(original: Any) -> Any:
        def _way(record_headers: Any, offset: int, replay_id: str) -> Any:
            lowest = headers.Level(replay.generation_of(record_headers), 0, 0)
            return original(record_headers, offset, replay_id) | {headers.LEVEL: headers.format_level(lowest)}

        return _way

    patch.replace(replay, "_way", make)


def restore_without(patch: Patch, *, dead: bool) -> None:
    def make(original: Any) -> Any:
        async def _scan(family: Any, reader: Any, begins: Any, ends: Any) -> Any:
            found = await original(family, reader, begins, ends)
            return {tp: [] if (family.shelves[tp.topic] == headers.DLT) is dead else of for tp, of in found.items()}

        return _scan

    patch.replace(takeover, "_scan", make)


def restore_without_unread_tier_records(patch: Patch) -> None:
    restore_without(patch, dead=False)


def restore_without_dead_letters(patch: Patch) -> None:
    restore_without(patch, dead=True)

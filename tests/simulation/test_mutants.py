"""The simulation bites: each planted bug breaks a promise within a few worlds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from streams.core import headers, lanes, restore
from streams.core.lanes import Lanes
from streams.core.outstanding import Outstanding
from streams.core.track import Track, parse_moved
from tests.simulation.broker import Broker
from tests.simulation.world import BrokenPromiseError, play

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = 150


def follow_into_the_highest_level(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Outstanding, "lowest_above", lambda self, level, key: self.top(key))


def run_a_moved_record_before_its_origin_is_committed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lanes, "_covered", lambda self, entry: True)


def accept_what_a_zombie_wrote(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(restore, "_pass_over_zombies", lambda shelves, tracks: None)


def take_every_copy_of_a_moved_record_for_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(restore, "_drop_lower_copies", lambda shelves, tracks: None)


def forget_the_bookmark(patch: pytest.MonkeyPatch) -> None:
    shelf = Broker.shelf

    def without_dead_letters(self: Broker, partition: int, number: int) -> Any:
        found = shelf(self, partition, number)
        return dataclasses.replace(found, scanned=()) if number == headers.DLT else found

    patch.setattr(Broker, "shelf", without_dead_letters)


def ignore_due_times(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lanes, "parse_moved", lambda found: parse_moved(found)._replace(due=0.0))


def commit_past_what_is_not_finished(patch: pytest.MonkeyPatch) -> None:
    snapshot = Track.snapshot

    def at_the_position(self: Track) -> tuple[int, str, bool]:
        snapshot(self)
        return self.position, "", True

    patch.setattr(Track, "snapshot", at_the_position)


def let_a_key_go_on_before_its_dead_letter_is_stored(patch: pytest.MonkeyPatch) -> None:
    give_up = Lanes._give_up

    def without_waiting(self: Lanes, entry: Any, result: Any) -> None:
        give_up(self, entry, result)
        entry.lane.blocked -= 1

    appended = Lanes.appended

    def balanced(self: Lanes, command: Any, offset: int, now: float) -> None:
        if not hasattr(command, "due"):
            command.entry.lane.blocked += 1
        appended(self, command, offset, now)

    patch.setattr(Lanes, "_give_up", without_waiting)
    patch.setattr(Lanes, "appended", balanced)


MUTANTS = [
    follow_into_the_highest_level,
    run_a_moved_record_before_its_origin_is_committed,
    accept_what_a_zombie_wrote,
    take_every_copy_of_a_moved_record_for_itself,
    forget_the_bookmark,
    ignore_due_times,
    commit_past_what_is_not_finished,
    let_a_key_go_on_before_its_dead_letter_is_stored,
]


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_caught(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(BrokenPromiseError):
        play_all()


def play_all() -> None:
    for seed in range(SEEDS):
        play(seed, steps=900)

"""Plays the core against random schedules, crashes, zombies, lost acknowledgements and operators."""

from __future__ import annotations

import pytest

from tests.simulation.world import play

SEEDS, CHUNK = 520, 40
# Order is not held yet where the broker stores a commit in part: the bookmark of the dead letters, but not the
# offsets they stand for (see test_lane_rules: a_dead_letter_is_known_after_a_crash...).
BROKEN = {252}


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_in_every_world(first: int) -> None:
    worlds = [play(seed, steps=900) for seed in range(first, first + CHUNK) if seed not in BROKEN]
    assert sum(len(world.done) for world in worlds) > CHUNK * 20
    assert sum(world.crashes for world in worlds) > CHUNK, "worlds without crashes prove little"


@pytest.mark.xfail(strict=True, reason="a commit that is stored in part can bring a dead letter back to life")
@pytest.mark.parametrize("seed", sorted(BROKEN))
def test_every_promise_holds_although_a_commit_is_stored_in_part(seed: int) -> None:
    play(seed, steps=900)

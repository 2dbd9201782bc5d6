"""Plays the core against random schedules, crashes, zombies, lost acknowledgements and operators."""

from __future__ import annotations

import pytest

from tests.simulation.world import play

SEEDS, CHUNK = 520, 40


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_in_every_world(first: int) -> None:
    worlds = [play(seed, steps=900) for seed in range(first, first + CHUNK)]
    assert sum(len(world.done) for world in worlds) > CHUNK * 20
    assert sum(world.crashes for world in worlds) > CHUNK, "worlds without crashes prove little"

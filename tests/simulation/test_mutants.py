"""The simulation bites: each planted bug breaks a promise, and the failing world is made small and fails again."""

from __future__ import annotations

import pytest

from tests.simulation.mutants.hunt import hunt
from tests.simulation.mutants.patch import Patch
from tests.simulation.mutants.planted import MUTANTS
from tests.simulation.play import play
from tests.simulation.shrink import shrink, story

SEEDS = 2_000


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    found = hunt(name, SEEDS)
    assert found.executed > 0, "what never ran was not planted"
    assert found.caught is not None


def test_a_failing_world_is_made_small_and_fails_again() -> None:
    name = "accept_what_a_zombie_wrote"
    seed = hunt(name, SEEDS).caught
    assert seed is not None
    with Patch() as patch:
        MUTANTS[name](patch)
        failed = play(seed)
        small = shrink(failed)
        again = play(seed, small.faults, small.records)
    assert (len(small.faults), len(small.records)) < (len(failed.faults), len(failed.records))
    assert again.digest == small.digest
    assert again.error is not None
    assert f"--seed {seed}" in story(small)
    assert play(seed).error is None, "without the bug the promise holds"


def test_what_is_planted_where_nothing_stands_is_an_error() -> None:
    with Patch() as patch, pytest.raises(AttributeError):
        patch.replace(play, "nothing", lambda original: original)
    with Patch() as patch, pytest.raises(TypeError, match="what is planted takes"):
        patch.replace(Patch, "replace", lambda original: lambda self: None)

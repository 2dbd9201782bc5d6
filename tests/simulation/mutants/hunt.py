"""Plants a bug and plays worlds until a promise breaks."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulation.mutants.patch import Patch
from tests.simulation.mutants.planted import MUTANTS
from tests.simulation.play import play
from tests.simulation.promises import BrokenPromiseError


@dataclass(frozen=True, slots=True)
class Hunt:
    """``caught``: the first seed in which a promise broke, None if none did; ``executed``: runs of what was planted."""

    name: str
    caught: int | None
    promise: str
    executed: int


def hunt(name: str, seeds: int) -> Hunt:
    """An engine that dies of its own assertions does not count: a promise has to break."""
    with Patch() as patch:
        MUTANTS[name](patch)
        for seed in range(seeds):
            error = play(seed).error
            if isinstance(error, BrokenPromiseError):
                return Hunt(name, seed, str(error), patch.executed)
    return Hunt(name, None, "", patch.executed)

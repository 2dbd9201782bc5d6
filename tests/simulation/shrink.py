"""Makes a failing world small: the same seed with as few faults and records as still break it, and its story."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.play import play

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.play import Played

TRIES = 120  # worlds that are played for it at most
_LINES = 60


@dataclass
class _Budget:
    left: int = TRIES


def shrink(failed: Played) -> Played:
    """The smallest world found in which the same kind of promise breaks."""
    best, budget = failed, _Budget()

    def breaks(faults: Sequence[str], records: Sequence[int]) -> bool:
        nonlocal best
        if budget.left <= 0:
            return False
        budget.left -= 1
        again = play(failed.seed, frozenset(faults), frozenset(records))
        if again.error is None or type(again.error) is not type(failed.error):
            return False
        best = again
        return True

    if breaks(failed.faults, failed.records):  # with both named from now on
        _without(list(best.faults), lambda kept: breaks(kept, best.records))
        _without(list(best.records), lambda kept: breaks(best.faults, kept))
        _without(list(best.faults), lambda kept: breaks(kept, best.records))
    return best


def _without(items: list[Any], breaks: Callable[[list[Any]], bool]) -> None:
    """Leave out stretches, ever smaller ones, as long as it still breaks."""
    size = max(1, len(items) // 2)
    while items:
        start = 0
        while start < len(items):
            fewer = items[:start] + items[start + size :]
            if breaks(fewer):
                items = fewer
            else:
                start += size
        if size == 1:
            return
        size //= 2


def story(played: Played) -> str:
    """How to play it again, and the lines about what broke: its key's records, the faults, who owned what."""
    told = [line for line in played.trace if played.concerns(line)]
    cut = [f"... {len(told) - _LINES} lines before"] if len(told) > _LINES else []
    return "\n".join(
        [
            f"seed {played.seed}: {type(played.error).__name__}: {played.error}",
            f"play it again: python -m tests.simulation --seed {played.seed}",
            f"smallest world found: {len(played.faults)} faults, {len(played.records)} records",
            *cut,
            *told[-_LINES:],
        ]
    )

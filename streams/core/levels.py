"""Where a failed record goes: the next level of its family.

Invariant: the level is always above the record's own, so a retry never goes back into its own level.
"""

from __future__ import annotations

from functools import lru_cache

from streams.core import headers
from streams.core.headers import SOURCE, Level


@lru_cache(1_024)  # asked for every record that fails
def after(level: Level, tiers: tuple[float, ...], at_least: float) -> Level:
    """The lowest level above ``level`` whose tier waits ``at_least`` seconds; if none does, the next of the longest.

    Args:
        level: Where the record failed.
        tiers: Delay in seconds of ``retry.1`` .. ``retry.k``, ascending; there is at least one.
        at_least: Seconds.
    """
    if level == SOURCE:
        level = Level(0, 0, 0)
    elif level.tier == headers.DLT:
        level = Level(level.generation + 1, 0, 0)
    # One way round: what is left of this lap, then the next lap up to our own tier.
    round_trip = [Level(level.generation, level.lap + (n <= level.tier), n) for n in range(1, len(tiers) + 1)]
    fitting = [up for up in round_trip if tiers[up.tier - 1] >= at_least]
    return min(fitting) if fitting else round_trip[-1]


def of_dead_letter(level: Level) -> Level:
    """The level of a record's dead letter; one that failed while it waited there goes up one generation."""
    return headers.dlt_level(max(level.generation, 0) + (level.tier == headers.DLT))

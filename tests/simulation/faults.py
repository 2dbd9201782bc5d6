"""What goes wrong in a world, drawn from its seed: things that happen at a time, and requests that meet a bad fate.

Every fault has a name (``crash#2``, ``commit-lost#0``), and a world can be played again with some of them only: that is
how a failing one is made small. Each kind has a random stream of its own, so leaving out one kind shifts no other.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

CHAOS = 16.0  # seconds of virtual time in which faults happen

# How often per world; what each does stands in ``mishaps.py``.
TIMED = {
    "crash": 3.0,
    "zombie": 1.5,
    "restart": 0.7,
    "join": 0.7,
    "expel": 0.5,
    "rebalance": 0.7,
    "disk-full": 0.3,
    "coordinator-away": 0.4,
    "head-expired": 0.25,
    "offsets-deleted": 0.1,
    "commits-rolled-back": 0.15,
    "metadata-damaged": 0.15,
    "cancel": 2.0,
}
_MOST = 6  # of one kind in one world


class Timed(NamedTuple):
    at: float
    name: str
    kind: str
    draw: float


class Faults:
    """Args:
    only: Names of the faults that may happen; None for all.
    note: Told of each that does.
    """

    def __init__(self, seed: int, only: Collection[str] | None, note: Callable[[str], None]) -> None:
        self._seed = seed
        self._only = only
        self._note = note
        self._streams: dict[str, random.Random] = {}
        self._counts: dict[str, int] = {}
        self.calm = False
        self.happened: list[str] = []

    def timeline(self) -> list[Timed]:
        draws = random.Random(f"{self._seed}/timeline")
        intensity = draws.choice([0.3, 1.0, 1.0, 2.0])
        found = []
        for kind, often in TIMED.items():
            count = min(_MOST, int(draws.expovariate(1.0) * often * intensity + draws.random() * 0.9))
            found += [Timed(draws.uniform(0.0, CHAOS), f"{kind}#{n}", kind, draws.random()) for n in range(count)]
        return sorted(found)

    def timed(self, fault: Timed) -> bool:
        """Whether a fault of the timeline happens in this world."""
        return self._happens(fault.name)

    def strikes(self, kind: str, chance: float) -> bool:
        """Whether a request meets this fate."""
        if self.calm:
            return False
        stream = self._streams.get(kind)
        if stream is None:
            stream = self._streams[kind] = random.Random(f"{self._seed}/{kind}")
        if stream.random() >= chance:
            return False
        number = self._counts.get(kind, 0)
        self._counts[kind] = number + 1
        return self._happens(f"{kind}#{number}")

    def _happens(self, name: str) -> bool:
        if self.calm or (self._only is not None and name not in self._only):
            return False
        self.happened.append(name)
        self._note(f"fault {name}")
        return True

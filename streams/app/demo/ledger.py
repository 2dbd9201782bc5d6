"""What the handlers really did: noted around them, not told by the engine under test.

Invariant: an effect is noted after the handler returned, once per run that finished a record.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.ports import Context

_RECENT = 2_000  # latencies kept per group


@dataclass(slots=True)
class Effects:
    """The effects of one consumer group, in the order they happened."""

    ids: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    by_key: dict[str | None, list[str]] = field(default_factory=lambda: defaultdict(list))
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    failures: int = 0

    def percentile(self, share: float) -> float:
        """Seconds from publishing to the end of the work that ``share`` of the recent records stayed below."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Ledger:
    """The effects of all groups."""

    def __init__(self) -> None:
        self.groups: dict[str, Effects] = defaultdict(Effects)

    def done(self, group: str, context: Context) -> None:
        """A handler finished a record."""
        effects = self.groups[group]
        effects.ids.append(context.id)
        effects.counts[context.id] += 1
        effects.by_key[context.key].append(context.id)
        effects.seconds.append(max(0.0, time.time() - context.timestamp / 1000))

    def failed(self, group: str) -> None:
        """A run failed."""
        self.groups[group].failures += 1

"""How many records of each key are outstanding at each level above the source.

Invariant: no empty level and no zero count is kept; ``levels`` is ascending.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core.headers import SOURCE

if TYPE_CHECKING:
    from streams.core.headers import Level


class Outstanding:
    """Counts by level and key; a record without a key has no order and is not counted."""

    def __init__(self) -> None:
        self._counts: dict[Level, dict[bytes, int]] = {}
        self.levels: list[Level] = []

    def add(self, level: Level, key: bytes | None) -> None:
        """One more record of the key at a level."""
        if key is None:
            return
        keys = self._counts.get(level)
        if keys is None:
            keys = self._counts[level] = {}
            self.levels = sorted(self._counts)
        keys[key] = keys.get(key, 0) + 1

    def remove(self, level: Level, key: bytes | None) -> None:
        """One record fewer; nothing is counted at the source."""
        if key is None or level == SOURCE:
            return
        keys = self._counts[level]
        keys[key] -= 1
        if not keys[key]:
            del keys[key]
        if not keys:
            del self._counts[level]
            self.levels = sorted(self._counts)

    def holds(self, key: bytes | None) -> bool:
        """Whether anything of the key is outstanding."""
        for keys in self._counts.values():  # noqa: SIM110 - asked for every record, and any() takes twice as long
            if key in keys:
                return True
        return False

    def top(self, key: bytes | None) -> Level:
        """The highest level with something of the key; the source if there is none."""
        for level in reversed(self.levels):
            if key in self._counts[level]:
                return level
        return SOURCE

    def lowest_above(self, level: Level, key: bytes | None) -> Level:
        """The lowest level above ``level`` that holds the key; there must be one."""
        return next(above for above in self.levels if above > level and key in self._counts[above])

    def count(self, level: Level) -> int:
        """Records of all keys at a level."""
        return sum(self._counts.get(level, {}).values())

"""The records of held keys in the dead-letter topic: a dead one in front, its followers behind it.

Invariant: entries of a key stand in offset order within a level; a follower is fetched at most once at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.core.headers import Level


@dataclass(frozen=True, slots=True)
class Held:
    """One record that waits at the dead letters' level; ``fetching``: its value was asked for."""

    offset: int
    key: bytes
    level: Level
    follower: bool
    fetching: bool = False


class HeldKeys:
    """An index by key and by offset; its size is the number of records held."""

    def __init__(self) -> None:
        self._by_offset: dict[int, Held] = {}
        self._by_key: dict[bytes, list[int]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def keys(self) -> list[bytes]:
        """The keys with something held."""
        return list(self._by_key)

    def add(self, held: Held) -> None:
        """Put a record behind those of its key."""
        self._by_offset[held.offset] = held
        self._by_key.setdefault(held.key, []).append(held.offset)

    def find(self, offset: int) -> Held | None:
        """The record at an offset, if it is held."""
        return self._by_offset.get(offset)

    def head(self, key: bytes, level: Level) -> Held | None:
        """The first record of the key at a level."""
        found = (self._by_offset[offset] for offset in self._by_key.get(key, ()))
        return next((held for held in found if held.level == level), None)

    def fetching(self, offset: int) -> None:
        """The record's value was asked for."""
        self._by_offset[offset] = replace(self._by_offset[offset], fetching=True)

    def pop(self, offset: int) -> Held | None:
        """Take a record out; None if it is not held."""
        held = self._by_offset.pop(offset, None)
        if held is not None:
            offsets = self._by_key[held.key]
            offsets.remove(offset)
            if not offsets:
                del self._by_key[held.key]
        return held

"""Tells when a partition's window is full and turns over so slowly that everything behind it waits.

Invariant: a window that is read through as fast as it is filled, however full it always is, is never called slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.core.track import Track

LOOK = 0.25  # seconds between two looks
LONGEST = 1.0  # seconds a whole window may take


class Crowding:
    """Looks at one track, again and again."""

    __slots__ = ("_position", "_since")

    def __init__(self) -> None:
        self._since: float | None = None  # when the window was looked at, full since then
        self._position = 0

    def slow(self, track: Track, now: float) -> bool:
        """Whether what is held of the track takes longer than ``LONGEST``, by what was admitted since the last look."""
        if not track.inbox:
            self._since = None
            return False
        if self._since is None:
            self._since, self._position = now, track.position
        spent = now - self._since
        if spent < LOOK:
            return False
        admitted = track.position - self._position
        self._since, self._position = now, track.position
        return admitted * LONGEST < len(track.pending) * spent

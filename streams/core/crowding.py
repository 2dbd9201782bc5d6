"""Tells when a partition's window fills up and turns over so slowly that what comes behind it has to wait.

Invariant: a window that is read through as fast as it is filled, however full it always is, is never called slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.core.track import Track

LOOK = 0.25  # seconds between two looks
LONGEST = 1.0  # seconds all that is held may take


class Crowding:
    """Looks at one track, again and again."""

    __slots__ = ("_done", "_since")

    def __init__(self) -> None:
        self._since: float | None = None  # when the window was looked at, filled since then
        self._done = 0

    def slow(self, track: Track, most: int, now: float) -> bool:
        """Whether what is held of the track takes longer than ``LONGEST``, by what was done since the last look.

        Asked of a window that is full, or holds more than half of its ``most`` records: before it is full, so that
        others need not wait until there is room again.
        """
        if not track.inbox and 2 * len(track.pending) <= most:
            self._since = None
            return False
        done = track.position - len(track.pending)
        if self._since is None:
            self._since, self._done = now, done
        spent = now - self._since
        if spent < LOOK:
            return False
        since, self._since, self._done = self._done, now, done
        return (done - since) * LONGEST < len(track.pending) * spent

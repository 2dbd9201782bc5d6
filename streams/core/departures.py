"""Moves that wait until a commit covers what their keys finished before.

Finished work that no commit covers comes back after a crash, where it was read. Had a later record of its key moved to
a level above meanwhile, it would come back behind that one.
Invariant: of two moves of a key the later is never let go before the earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core import headers
from streams.core.headers import Level
from streams.core.track import SHELF_SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.core.commands import Append, DeadLetter
    from streams.core.track import Track

    Move = Append | DeadLetter


class Departures:
    """Of one partition.

    Attributes:
        sent: How many snapshots were taken; a lane notes with it when it last finished something in the source.
    """

    def __init__(self, tracks: Mapping[int, Track]) -> None:
        self.sent = 0
        self._covered = 0  # what was finished in the source before this snapshot is covered by an acknowledged commit
        self._source = tracks[SHELF_SOURCE]
        # Each other track with the lowest level that it may hold.
        self._others = [
            (headers.dlt_level(0) if shelf == headers.DLT else Level(0, 0, shelf), track)
            for shelf, track in tracks.items()
            if shelf != SHELF_SOURCE
        ]
        # By key: those since the last snapshot, and those before.
        self._late: dict[bytes, list[Move]] = {}
        self._waiting: dict[bytes, list[Move]] = {}

    def __bool__(self) -> bool:
        return bool(self._late or self._waiting)

    def keeps(self, move: Move) -> bool:
        """Whether the move has to wait; if so, it is kept."""
        key = move.entry.key
        if key is None or (key not in self._late and key not in self._waiting and self._is_covered(move)):
            return False
        self._late.setdefault(key, []).append(move)
        return True

    def _is_covered(self, move: Move) -> bool:
        """Whether nothing that the key finished below the level it moves to can come back."""
        return (move.entry.lane.finished < self._covered or self._source.settled) and all(
            track.settled for lowest, track in self._others if lowest < move.level
        )

    def snapshot(self) -> None:
        """A commit of all that is finished now is being sent."""
        self.sent += 1
        for key, moves in self._late.items():
            self._waiting.setdefault(key, []).extend(moves)
        self._late = {}

    def committed(self) -> list[Move]:
        """The last snapshot was acknowledged: what may move now."""
        if self._source.settled_whole:
            self._covered = self.sent
        free: list[Move] = []
        waiting, self._waiting = self._waiting, {}
        for key, moves in waiting.items():
            told = _told(moves)
            free += moves[:told]
            if told < len(moves):
                self._waiting[key] = moves[told:]
        return free


def _told(moves: list[Move]) -> int:
    """How many of them, in order, come from where the last snapshot told all that lies before."""
    return next((n for n, move in enumerate(moves) if not move.entry.track.told(move.entry.offset)), len(moves))

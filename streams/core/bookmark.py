"""The dead letters of one partition: which keys they hold, who frees them, and when a commit may pass over them.

A dead letter, a discard and a replay each stand for something elsewhere, and a commit can be stored in part: so each is
*pinned* until an acknowledged commit says what it stands for, and only the next commit passes over it.
Invariant: what holds a key is in ``held`` and pending in the dead-letter track; what is freed is in neither, once it
is not pinned any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core import headers
from streams.core.held import Held, HeldKeys
from streams.core.track import Entry, shelf_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.core.headers import Level, Place
    from streams.core.outstanding import Outstanding
    from streams.core.track import Moved, Track


class DeadLetters:
    """See the module.

    Args:
        track: Of the dead-letter topic, which only the owner itself reads; its position is the bookmark.
        on_its_way: Whether a dead letter of the key is written and not acknowledged.
        covered: Whether a commit says that the place an entry came from is finished.
    """

    def __init__(
        self,
        track: Track,
        outstanding: Outstanding,
        on_its_way: Callable[[bytes | None], bool],
        covered: Callable[[Entry], bool],
    ) -> None:
        self.held = HeldKeys()
        self._track = track
        self._outstanding = outstanding
        self._on_its_way = on_its_way
        self._covered = covered
        # Freed by an operator before our own write was acknowledged: dead letter's offset -> the operator's record.
        self._freed_early: dict[int, Entry] = {}
        # Those since the last commit was sent, and those that wait for its acknowledgement.
        self._late: dict[Entry, None] = {}
        self._pinned: dict[Entry, None] = {}

    @property
    def pinned(self) -> bool:
        """Whether something waits for a commit."""
        return bool(self._late or self._pinned)

    def keep(
        self, offset: int, key: bytes | None, level: Level, came_from: Place | None, *, hold: bool, follower: bool
    ) -> None:
        """Note a record of the dead-letter topic; one that holds its key stays until an operator frees it.

        The bookmark passes it, and it runs, only after an acknowledged commit of the place it came from: where that
        was not stored, a crash would bring it back to life.
        """
        self._track.position = offset + 1
        entry = Entry(self._track, offset, key, level, None)
        entry.came_from = came_from
        self._track.hold(entry)
        self._late[entry] = None
        freed = offset in self._freed_early
        # Those of a key without a dead letter on its way were written by an owner before us.
        ours = self._on_its_way(key)
        for early in [at for at, of in self._freed_early.items() if at <= offset or (of.key == key and not ours)]:
            record = self._freed_early.pop(early)
            if early != offset:
                record.came_from = None  # no commit of ours will tell of it
            if record.lane is None:
                self._late[record] = None
        if freed:
            self._outstanding.remove(level, key if hold else None)
        elif hold and key is not None:
            self.held.add(Held(offset, key, level, follower))

    def free(self, moved: Moved, entry: Entry) -> Held | None:
        """An operator replayed or discarded what ``moved`` came from; what held its key until now."""
        place = moved.came_from
        if place is None or shelf_of(place.level) != headers.DLT:
            return None
        if place.offset >= self._track.position:
            if self._on_its_way(entry.key):  # else it is a late write of an owner before us, and holds nothing
                self._freed_early[place.offset] = entry
            return None
        freed = self.held.find(place.offset)
        if freed is not None:
            self.leave(freed.offset)
            if freed.offset not in self._track.pending:
                self._track.moved.add(freed.offset)
        return freed

    def handled(self, entry: Entry) -> None:
        """An operator's record that has nothing to run was read."""
        if entry not in self._freed_early.values():
            self._late[entry] = None

    def knows(self, place: Place) -> bool:
        """Whether it is a dead letter of our own time, or one that we shall hear of."""
        known = place.offset < self._track.position or place.offset in self._freed_early
        return shelf_of(place.level) == headers.DLT and known

    def leave(self, offset: int) -> None:
        """The record at an offset holds its key no longer."""
        freed = self.held.pop(offset)
        assert freed is not None, "it held its key"
        self._outstanding.remove(freed.level, freed.key)
        entry = self._track.pending[offset]
        if entry not in self._late and entry not in self._pinned:
            self._track.finish(offset)

    def snapshot(self) -> None:
        """A commit of all that is finished now is being sent."""
        self._pinned |= self._late
        self._late = {}

    def committed(self) -> None:
        """It was acknowledged."""
        pinned, self._pinned = self._pinned, {}
        for pin in pinned:
            self._unpin(pin)

    def _unpin(self, pin: Entry) -> None:
        if pin.track is self._track and self.held.find(pin.offset) is not None:
            return  # an operator has yet to free it
        if not self._covered(pin):  # as of a discard whose dead letter this commit could not call free yet
            self._late[pin] = None
            return
        pin.track.finish(pin.offset)
        pin.track.moved.add(pin.offset)

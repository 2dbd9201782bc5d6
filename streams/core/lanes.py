"""The lanes of one partition of a family: which record of a key may run, and where the others go.

The rules are those of the design, section 2: run only the earliest record of a key at its highest outstanding
level; a record below an outstanding one follows it into the lowest level above that holds the key.
Invariant: reading the levels from the highest to the source, each first-in first-out, gives every key's records
in publish order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.core import headers, levels
from streams.core.bookmark import DeadLetters
from streams.core.commands import CANCELLED, NOT_RUN, SUCCEEDED, Append, Blocked, DeadLetter, Failed, Fetch
from streams.core.crowding import Crowding
from streams.core.departures import Departures
from streams.core.headers import SOURCE, Level, Place
from streams.core.lane import Lane
from streams.core.outstanding import Outstanding
from streams.core.retry import GiveUp, WaitInPlace, decide
from streams.core.track import SHELF_SOURCE, Entry, Moved, Track, parse_moved, shelf_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.core.commands import Command, Result


# Records of one key under way to another level at once: a key with thousands of them moves step by step, each
# acknowledgement letting the next one go, so that the keys beside it do not wait for all of that.
LEAVING = 64


class Lanes:
    """One partition of the family.

    Args:
        partition: The partition number.
        tiers: Delay in seconds of ``retry.1`` .. ``retry.k``.
        mover: A name no other owner of this partition ever had or will have.
        leaving: Most records of one key under way to another level.
    """

    def __init__(
        self,
        partition: int,
        tiers: tuple[float, ...],
        mover: str,
        tracks: Mapping[int, Track],
        leaving: int = LEAVING,
    ) -> None:
        self.partition = partition
        self.leaving = leaving
        self.tiers = tiers
        self.mover = mover
        self.tracks = dict(tracks)
        self.source = self.tracks[SHELF_SOURCE]
        self.dlt = self.tracks[headers.DLT]
        self.lanes: dict[bytes, Lane] = {}
        self.keyless: dict[Lane, None] = {}
        self.outstanding = Outstanding()
        self.dead = DeadLetters(self.dlt, self.outstanding, self._blocked, self._covered)
        self.held = self.dead.held
        self.gated: dict[Lane, None] = {}
        self.crowding = Crowding()
        self.departures = Departures(self.tracks)
        self.stopped = True
        self.fresh = True  # no commit of ours was acknowledged yet
        self.fenced = 0  # records of a zombie that were passed over

        # What came out, taken by the shell's core.
        self.commands: list[Command] = []
        self.ready: list[Lane] = []
        self.timers: list[Lane] = []

    # -- intake ----------------------------------------------------------------------------------------------------

    def admit(self, shelf: int, now: float, records: int, size: int) -> int:
        """Take records from a shelf's inbox while fewer than ``records`` and ``size`` bytes are held; how many."""
        track = self.tracks[shelf]
        inbox, pending = track.inbox, track.pending
        before = len(inbox)
        while inbox and len(pending) < records and track.held_bytes < size:
            record = inbox.popleft()
            offset = record.offset
            if offset < track.position:
                continue  # delivered twice by the client
            track.position = offset + 1
            if track.ahead.bounds and self._known(track, offset):
                continue
            if shelf == SHELF_SOURCE:
                pending[offset] = entry = Entry(track, offset, record.key, SOURCE, record)
                track.held_bytes += entry.size
                self._queue_source(entry, now)
            else:
                self._admit_moved(track, record, now)
        return before - len(inbox)

    def _known(self, track: Track, offset: int) -> bool:
        known = offset in track.ahead
        track.ahead.drop_below(offset + 1)
        return known

    def _admit_moved(self, track: Track, record: Any, now: float) -> None:
        moved = parse_moved(record.headers)
        entry = Entry(track, record.offset, record.key, moved.level or Level(0, 0, track.shelf), record)
        if record.offset >= track.end and moved.mover != self.mover:
            if moved.mover is not None:
                self.fenced += 1  # an owner before us wrote it after we had looked: what it moved is ours
                return
            if moved.control is None:
                self.outstanding.add(entry.level, record.key)
            freed = self.dead.free(moved, entry)
            if freed is not None:
                self.advance(self._lane(freed.key), now)
        track.hold(entry)
        entry.came_from = moved.came_from if self._waits_for_its_origin(moved) else None
        if moved.control is None:
            entry.attempts, entry.due = moved.attempts, moved.due
            self._queue_moved(entry, now)
        else:
            self.dead.handled(entry)

    def _queue_source(self, entry: Entry, now: float) -> None:
        lane = self.lanes.get(entry.key)  # type: ignore[arg-type]  # None is never there
        if lane is None:
            lane = self._new_lane(entry.key)
        entry.lane = lane
        lane.source.append(entry)
        if lane.running or lane.ready:
            return
        if self.stopped or self._is_above(lane) or lane.blocked or len(lane.source) > 1:
            self.advance(lane, now)
        else:  # the first record of a key that has nothing else
            lane.ready = True
            self.ready.append(lane)

    def _queue_moved(self, entry: Entry, now: float) -> None:
        lane = entry.lane = self._lane(entry.key)
        lane.put(entry)
        if not (lane.running or lane.ready):
            self.advance(lane, now)

    def _new_lane(self, key: bytes | None) -> Lane:
        lane = Lane(self, key)
        if key is None:  # no key, no order: a lane of its own
            self.keyless[lane] = None
        else:
            self.lanes[key] = lane
        return lane

    def _lane(self, key: bytes | None) -> Lane:
        found = None if key is None else self.lanes.get(key)
        return self._new_lane(key) if found is None else found

    # -- dead letters that are replayed or discarded, and what waits behind them ---------------------------------

    def _blocked(self, key: bytes | None) -> bool:
        lane = self.lanes.get(key) if key is not None else None
        return lane is not None and lane.blocked > 0

    def _waits_for_its_origin(self, moved: Moved) -> bool:
        """Whether a commit must cover the place it came from before it runs, or counts as dealt with.

        The first commit of an ownership covers all that was known before, but for the dead letters: they are pinned.
        """
        place = moved.came_from
        return place is not None and (moved.mover == self.mover or self.dead.knows(place))

    def fetched(self, record: Any, now: float) -> None:
        """The shell read a record that waited behind a dead letter and is free now."""
        held = self.held.find(record.offset)
        if held is None or self.stopped:
            return
        entry = self.dlt.pending[record.offset]
        entry.record, entry.level = record, held.level
        entry.attempts = parse_moved(record.headers).attempts
        if entry.lane is None:
            self._queue_moved(entry, now)

    # -- moving on -------------------------------------------------------------------------------------------------

    def advance(self, lane: Lane, now: float) -> None:
        """Apply the rules to a key: follow, wait, or get ready to run."""
        if lane.running or lane.blocked or self.stopped:
            return
        if lane.crowds:
            lane.crowds = False
            self._park(lane)
        if not self._is_above(lane):  # most of the time
            if lane.source:
                self._wait_or_get_ready(lane, lane.source[0], now)
            else:
                self._forget(lane)
            return
        top = self._top(lane)
        if lane.key is not None:
            self._follow(lane, top)
        queue = lane.queue(top)
        if queue:
            self._wait_or_get_ready(lane, queue[0], now)
        else:
            self._wait_for_unread(lane, top)

    def _wait_or_get_ready(self, lane: Lane, head: Entry, now: float) -> None:
        if head.due > now:
            if lane.timer != head.due:
                lane.timer = head.due
                self.timers.append(lane)
        elif head.came_from is not None and not self._covered(head):
            self.gated[lane] = None
        elif not lane.ready:
            lane.ready = True
            self.ready.append(lane)

    def _is_above(self, lane: Lane) -> bool:
        """Whether something of the key is above the source, read or not."""
        return bool(lane.above) or (bool(self.outstanding.levels) and self.outstanding.holds(lane.key))

    def _top(self, lane: Lane) -> Level:
        return next(iter(lane.levels), SOURCE) if lane.key is None else self.outstanding.top(lane.key)

    def _follow(self, lane: Lane, top: Level) -> None:
        for level in lane.levels:
            if level >= top or shelf_of(level) == headers.DLT:
                continue
            target = self.outstanding.lowest_above(level, lane.key)
            queue = lane.queue(level)
            while queue and lane.leaving < self.leaving:
                entry = queue[0]
                if not self._covered(entry):
                    self.gated[lane] = None
                    break
                lane.pop(entry)
                self._move(entry, target, 0.0)

    def _wait_for_unread(self, lane: Lane, top: Level) -> None:
        if top.tier == headers.DLT and lane.key is not None:
            head = self.held.head(lane.key, top)
            if head is not None and head.follower and not head.fetching:
                self.held.fetching(head.offset)
                self.commands.append(Fetch(self.partition, head.offset))
        if lane.empty:
            self._forget(lane)

    def _forget(self, lane: Lane) -> None:
        if lane.key is None:
            self.keyless.pop(lane, None)
        elif self.lanes.get(lane.key) is lane:
            del self.lanes[lane.key]

    def _covered(self, entry: Entry) -> bool:
        place = entry.came_from
        return place is None or self.tracks[shelf_of(place.level)].covered(place.offset)

    def take(self, lane: Lane, most: int, now: float) -> tuple[Entry, ...]:
        """Up to ``most`` records of the lane's top level that may run now, in order; the lane is running then."""
        lane.ready = False
        if lane.running or lane.blocked or self.stopped:
            return ()
        queue = lane.queue(self._top(lane)) if self._is_above(lane) else lane.source
        if queue and (most == 1 or len(queue) == 1):
            head = queue[0]
            if head.due <= now and head.came_from is None:
                lane.running = 1
                return (head,)
        taken = self._runnable(queue, most, now) if queue else ()
        lane.running = len(taken)
        if not taken:
            self.advance(lane, now)
        return taken

    def _runnable(self, queue: list[Entry], most: int, now: float) -> tuple[Entry, ...]:
        taken: list[Entry] = []
        for entry in queue:
            if entry.due > now or (entry.came_from is not None and not self._covered(entry)):
                break
            taken.append(entry)
            if len(taken) == most:
                break
        return tuple(taken)

    # -- what became of it -----------------------------------------------------------------------------------------

    def finished(self, entry: Entry, result: Result, now: float) -> None:
        """A run of the entry ended; the last one of its lane's run lets the lane go on."""
        lane = entry.lane
        lane.running -= 1
        ended = result is SUCCEEDED or result is CANCELLED
        if ended and entry.level is SOURCE:  # nearly every record, hence without a call
            head, track = lane.source.pop(0), entry.track
            assert head is entry, "a lane is left from its head"
            del track.pending[entry.offset]
            track.held_bytes -= entry.size
            lane.finished = self.departures.sent
        elif ended:
            self._leave(lane, entry)
        elif isinstance(result, Failed):
            self._failed(entry, result, now)
        elif isinstance(result, Blocked):
            entry.due = now + result.seconds
        else:
            assert result is NOT_RUN
        if not lane.running:
            self.advance(lane, now)

    def _leave(self, lane: Lane, entry: Entry) -> None:
        lane.pop(entry)
        if entry.track is self.dlt:
            self.dead.leave(entry.offset)
            return
        entry.track.finish(entry.offset)
        self.outstanding.remove(entry.level, entry.key)

    def _failed(self, entry: Entry, result: Failed, now: float) -> None:
        entry.attempts += 1
        decision = decide(result.policy, entry.attempts, tiers=bool(self.tiers), after=result.after, draw=result.draw)
        if result.final or isinstance(decision, GiveUp):
            self._give_up(entry, result)
        elif isinstance(decision, WaitInPlace):
            entry.due = now + decision.seconds
        else:
            target = levels.after(entry.level, self.tiers, decision.at_least)
            entry.lane.pop(entry)
            self._move(entry, target, now + self.tiers[target.tier - 1], result.failure)

    def _give_up(self, entry: Entry, result: Failed) -> None:
        entry.lane.pop(entry)
        hold = result.policy.on_dead == "hold" and entry.key is not None
        level = levels.of_dead_letter(entry.level)
        if hold:
            self.outstanding.add(level, entry.key)
        entry.lane.blocked += 1
        self._send(DeadLetter(entry, level, hold, result.failure))

    def _move(self, entry: Entry, target: Level, due: float, failure: Any = None) -> None:
        self.outstanding.add(target, entry.key)
        entry.lane.leaving += 1
        self._send(Append(entry, target, due, failure))

    def _send(self, move: Append | DeadLetter) -> None:
        if not self.departures.keeps(move):
            self.commands.append(move)

    def park(self, most: int) -> None:
        """Move the oldest waiting source records into the first tier, so that the commit map has fewer gaps."""
        for entry in list(self.source.pending.values())[:most]:
            if not entry.lane.running and entry.lane.source and entry.lane.source[0] is entry:
                self._park(entry.lane)

    def _park(self, lane: Lane) -> None:
        """Move the first record of a key into the first tier; what waits behind it follows."""
        if lane.source and self.outstanding.top(lane.key) == SOURCE:
            head = lane.source.pop(0)
            self._move(head, Level(0, 0, 1), head.due)

    def make_room(self, now: float) -> bool:
        """Let the key that has more than half of what is held of the source go on in the first tier; whether one has.

        So a key that cannot keep up with its records does not keep those of others from being read.
        """
        lane = max(self.lanes.values(), key=_held_of_source, default=None)
        if lane is None or not self.tiers or 2 * len(lane.source) <= len(self.source.pending):
            return False
        lane.crowds = True
        self.advance(lane, now)
        return True

    # -- acknowledgements ------------------------------------------------------------------------------------------

    def appended(self, command: Append | DeadLetter, offset: int, now: float) -> None:
        """The broker acknowledged a moved record or dead letter at ``offset`` of its new topic."""
        entry = command.entry
        if isinstance(command, DeadLetter):
            entry.lane.blocked -= 1
        else:
            entry.lane.leaving -= 1
        if command.level.tier == headers.DLT:
            hold = command.hold if isinstance(command, DeadLetter) else True
            place = Place(entry.level, entry.offset)
            self.dead.keep(offset, entry.key, command.level, place, hold=hold, follower=isinstance(command, Append))
        if entry.track is self.dlt:
            self.dead.leave(entry.offset)
        else:
            entry.track.finish(entry.offset)
            self.outstanding.remove(entry.level, entry.key)
        entry.track.moved.add(entry.offset)
        # The lane may have been forgotten, and made anew, while the append was under way.
        lane = self.lanes.get(entry.key) if entry.key is not None else entry.lane
        if lane is not None or command.level.tier == headers.DLT:
            self.advance(lane or entry.lane, now)

    @property
    def waits_for_commit(self) -> bool:
        """Whether something may go on only once a commit is acknowledged."""
        return self.fresh or bool(self.gated or self.dead.pinned or self.departures)

    def snapshot(self) -> tuple[dict[tuple[int, int], tuple[int, str]], bool]:
        """What to commit for every shelf, and whether the metadata held everything."""
        offsets, complete = {}, True
        for shelf, track in self.tracks.items():
            low, text, whole = track.snapshot()
            offsets[self.partition, shelf] = (low, text)
            complete = complete and whole
        self.dead.snapshot()
        self.departures.snapshot()
        return offsets, complete

    def committed(self, now: float) -> None:
        """The last snapshot was acknowledged: what it covers may run and be forgotten."""
        for track in self.tracks.values():
            track.committed()
        self.dead.committed()
        self.commands += self.departures.committed()
        gated, self.gated = self.gated, {}
        for lane in gated:
            self.advance(lane, now)

    def open(self, now: float) -> None:
        """Let the keys run: the commit that names us as the only writer is acknowledged."""
        self.stopped = self.fresh = False
        for lane in [*self.lanes.values(), *self.keyless]:
            self.advance(lane, now)
        for key in self.held.keys:
            self.advance(self._lane(key), now)


def _held_of_source(lane: Lane) -> int:
    return len(lane.source)

"""The core of one consumer group in one process: its partitions' lanes, the slots they share, commits and flow.

The shell calls a method for each thing that happened and then carries out what :meth:`Core.take_commands` returns.
Invariant: at most ``concurrency`` runs at once; at most one commit under way, and it speaks of all partitions.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from streams.core.commands import Append, Commit, DeadLetter, Pause, Resume, Start
from streams.core.lanes import LEAVING
from streams.core.restore import Shelf, restore
from streams.core.track import SHELF_SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.core.commands import Command, Result, Run
    from streams.core.lane import Lane
    from streams.core.lanes import Lanes
    from streams.core.track import Entry, Track

# Of a key with so many records waiting, a run takes a row of them at once: as many as end without having to wait are
# done one after the other, so that the key is not held up by the turns of all others.
DEEP, ROW = 4, 16
# How many records are moved out of the way at once when a commit map is nearly full.
PARK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one group in one process.

    Attributes:
        concurrency: Runs at once (a batch is one run).
        records: Records held per partition and topic, polled but unadmitted ones not counted.
        bytes: Bytes held in all; half for the sources, half for the tiers, shared evenly by their partitions.
        batch: Most records of one run; ``linger``: seconds to wait for a batch to fill.
        leaving: Records of one key under way to another level at once.
    """

    concurrency: int
    records: int = 2_000
    bytes: int = 67_108_864
    batch: int = 1
    linger: float = 0.0
    leaving: int = LEAVING


class Core:
    """See the module. Times are seconds since the epoch, given by the shell."""

    def __init__(self, tiers: tuple[float, ...], limits: Limits) -> None:
        self.tiers = tiers
        self.limits = limits
        self.partitions: dict[int, Lanes] = {}
        self.running: set[Run] = set()
        self.appending: dict[Entry, Append | DeadLetter] = {}
        self._ready: deque[Lane] = deque()
        self._ready_since = 0.0
        self._timers: list[tuple[float, int, Lane]] = []
        self._order = count()
        self._commands: list[Command] = []
        # Partitions that something happened to since the last commands were taken, in the order of what happened.
        self._touched: dict[Lanes, None] = {}
        self._committing: dict[int, Lanes] | None = None
        self._last: dict[tuple[int, int], tuple[int, str]] = {}
        self._stopping = False

    # -- ownership -------------------------------------------------------------------------------------------------

    def assigned(self, partition: int, shelves: Mapping[int, Shelf], mover: str) -> None:
        """Own a partition; it runs nothing until the next commit is acknowledged."""
        self.own(self.restored(partition, shelves, mover))

    def restored(self, partition: int, shelves: Mapping[int, Shelf], mover: str) -> Lanes:
        """The lanes of a partition that is not owned yet: what was read of it can be forgotten."""
        return restore(partition, self.tiers, mover, shelves, self.limits.leaving)

    def own(self, lanes: Lanes) -> None:
        """Own a partition, as :meth:`assigned`."""
        self.partitions[lanes.partition] = lanes
        self._touched[lanes] = None

    def stop(self) -> None:
        """Start nothing more; what runs may end and be committed."""
        self._stopping = True
        for lanes in self.partitions.values():
            lanes.stopped = True

    def revoked(self) -> None:
        """Own nothing: results and acknowledgements that come late touch nothing."""
        for lanes in self.partitions.values():
            lanes.stopped = True
        self.partitions = {}
        self.running, self.appending = set(), {}
        self._ready.clear()
        self._timers.clear()
        self._commands.clear()
        self._touched.clear()
        self._committing = None
        self._last = {}
        self._stopping = False

    def owns(self, entry: Entry) -> bool:
        """Whether the entry belongs to a partition owned now, in the same spell of ownership."""
        return self.partitions.get(entry.lane.lanes.partition) is entry.lane.lanes

    @property
    def drained(self) -> bool:
        """Whether nothing runs and nothing is being written."""
        return not self.running and not self.appending

    # -- what happened ---------------------------------------------------------------------------------------------

    def polled(self, partition: int, shelf: int, records: Sequence[Any], now: float) -> None:
        """Records were read; those of a partition no longer owned are dropped."""
        lanes = self.partitions.get(partition)
        if lanes is None:
            return
        lanes.tracks[shelf].inbox.extend(records)
        self._admit(lanes, shelf, now)
        self._touched[lanes] = None

    def dropped(self, partition: int, first: int, stop: int) -> None:
        """The source's log lost these offsets before they were read: commits call them finished."""
        self.partitions[partition].source.ahead.add(first, stop)

    def fetched(self, partition: int, record: Any, now: float) -> None:
        """A record asked for by ``Fetch`` was read."""
        lanes = self.partitions.get(partition)
        if lanes is not None:
            lanes.fetched(record, now)
            self._touched[lanes] = None

    def finished(self, run: Run, results: Iterable[Result], now: float) -> None:
        """A run ended with one result per entry."""
        if run not in self.running:
            return
        self.running.remove(run)
        for entry, result in zip(run, results, strict=True):
            lanes = entry.lane.lanes
            lanes.finished(entry, result, now)
            self._touched[lanes] = None

    def appended(self, command: Append | DeadLetter, offset: int, now: float) -> None:
        """A moved record was acknowledged at ``offset``."""
        if self.appending.get(command.entry) is not command:
            return
        del self.appending[command.entry]
        lanes = command.entry.lane.lanes
        lanes.appended(command, offset, now)
        self._touched[lanes] = None

    def committed(self, *, acknowledged: bool, now: float) -> None:
        """The commit under way was acknowledged, or failed and is to be made anew."""
        covered, self._committing = self._committing or {}, None
        if not acknowledged:
            self._last = {}
            return
        for lanes in covered.values():
            lanes.committed(now)
            if lanes.fresh and not self._stopping:
                lanes.open(now)
            self._touched[lanes] = None

    def tick(self, now: float) -> None:
        """Time went by."""
        while self._timers and self._timers[0][0] <= now:
            lane = heapq.heappop(self._timers)[2]
            lane.timer = 0.0
            lane.lanes.advance(lane, now)
            self._touched[lane.lanes] = None

    # -- what to do ------------------------------------------------------------------------------------------------

    def take_commands(self, now: float) -> list[Command]:
        """Everything to do now; each command is handed out once."""
        touched, self._touched = self._touched, {}
        for lanes in touched:
            for shelf, track in lanes.tracks.items():
                if track.inbox or track.paused or 2 * len(track.pending) > self.limits.records:
                    self._flow(lanes, shelf, track, now)
            self._collect(lanes, now)
        runs = self._start(now)
        commands, self._commands = self._commands, []
        if runs:
            commands.append(Start(runs))
        return commands

    def full(self) -> set[tuple[int, int]]:
        """The (partition, shelf) pairs that have more to admit than they may hold: not to be read for now.

        Those that are paused are not among them: a client throws away what it has of them when it is asked for it.
        """
        return {
            (lanes.partition, shelf)
            for lanes in self.partitions.values()
            for shelf, track in lanes.tracks.items()
            if track.inbox and not track.paused
        }

    def commit(self) -> Commit | None:
        """A commit of all that changed since the last acknowledged one, or None (also while one is under way)."""
        if self._committing is not None:
            return None
        offsets: dict[tuple[int, int], tuple[int, str]] = {}
        for lanes in self.partitions.values():
            found, complete = lanes.snapshot()
            offsets.update(found)
            if not complete:
                lanes.park(PARK)
        changed = {place: value for place, value in offsets.items() if self._last.get(place) != value}
        if not changed and not any(lanes.waits_for_commit for lanes in self.partitions.values()):
            return None
        self._committing = dict(self.partitions)
        self._last.update(changed)
        return Commit(changed or offsets)

    def next_wake(self) -> float | None:
        """When :meth:`tick` has something to do next, if time alone brings it."""
        waiting = self._ready and len(self.running) < self.limits.concurrency
        batch = self._ready_since + self.limits.linger if waiting else None
        timer = self._timers[0][0] if self._timers else None
        return min((at for at in (batch, timer) if at is not None), default=None)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _collect(self, lanes: Lanes, now: float) -> None:
        if lanes.commands:
            self.appending.update((c.entry, c) for c in lanes.commands if isinstance(c, Append | DeadLetter))
            self._commands += lanes.commands
            lanes.commands = []
        if lanes.ready:
            if not self._ready:
                self._ready_since = now
            self._ready += lanes.ready
            lanes.ready = []
        for lane in lanes.timers:
            heapq.heappush(self._timers, (lane.timer, next(self._order), lane))
        lanes.timers = []

    def _start(self, now: float) -> list[Run]:
        runs: list[Run] = []
        ready, room = self._ready, self.limits.concurrency - len(self.running)
        next_run = self._next_single if self.limits.batch == 1 else self._next_batch
        while ready and len(runs) < room:
            run = next_run(now)
            if run is None:
                break
            if run:
                runs.append(run)
        self.running.update(runs)
        return runs

    def _next_single(self, now: float) -> Run:
        lane = self._ready.popleft()
        waiting = len(lane.source)
        return lane.lanes.take(lane, 1 if waiting < DEEP else min(waiting, ROW), now)

    def _next_batch(self, now: float) -> Run | None:
        """The next batch, perhaps empty; None while it should gather more."""
        if not self._batch_due(now):
            return None
        entries: list[Entry] = []
        while self._ready and len(entries) < self.limits.batch:
            lane = self._ready.popleft()
            entries += lane.lanes.take(lane, self.limits.batch - len(entries), now)
        return tuple(entries)

    def _batch_due(self, now: float) -> bool:
        return len(self._ready) >= self.limits.batch or now >= self._ready_since + self.limits.linger

    def _admit(self, lanes: Lanes, shelf: int, now: float) -> None:
        lanes.admit(shelf, now, self.limits.records, self._share(shelf))

    def _share(self, shelf: int) -> int:
        tracks = len(self.partitions) * (1 if shelf == SHELF_SOURCE else len(self.tiers) + 1)
        return self.limits.bytes // 2 // tracks

    def _flow(self, lanes: Lanes, shelf: int, track: Track, now: float) -> None:
        self._admit(lanes, shelf, now)
        crowded = (
            shelf == SHELF_SOURCE and lanes.crowding.slow(track, self.limits.records, now) and lanes.make_room(now)
        )
        # A source that is full is left unread: soon there is room. Where one key keeps it full, as in a tier, which
        # stays full until its records are due, what the client has fetched ahead is thrown away: it would stand in
        # memory as long, and keep the client from fetching other partitions. Where all keys wait alike it would be
        # fetched, and thrown away, again and again.
        if track.inbox and not track.paused and (crowded or shelf != SHELF_SOURCE):
            track.paused = True
            self._commands.append(Pause(lanes.partition, shelf))
        elif track.paused and not track.inbox and len(track.pending) <= self.limits.records // 2:
            track.paused = False
            self._commands.append(Resume(lanes.partition, shelf))

"""What keylane promises, checked at every step: each check raises BrokenPromiseError.

- nothing lost: every record ends as done, as a visible dead letter, or as discarded;
- order: per key, first effects in publish order; what is repeated is repeated in order;
- alone: never two runs of one key in live owners;
- commits: never one past unfinished work, or past work that is not told of;
- repeats: only of what was in flight, or finished and not committed;
- cancelled: what its worker was ordered to cancel does not begin, and ends, neither done nor dead;
- holds: a held key stays held until its dead letter is replayed or discarded;
- memory: what is held stays within its bounds;
- progress: once faults stop, everything ends.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from streams.core import commit_map, headers
from streams.core.track import SHELF_SOURCE, parse_moved
from tests.simulation.handlers import HOLD, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.core.commit_map import Fence
    from streams.core.headers import Level
    from streams.ports import Message
    from tests.simulation.broker import Rec
    from tests.simulation.handlers import Plan
    from tests.simulation.world import Worker, World

    Ownership = tuple[str, int]

STATUS = "status"  # the topic that tells of jobs


class BrokenPromiseError(AssertionError):
    """A promise did not hold; ``number`` names a record it is about."""

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.number = number


@dataclass(eq=False)
class Run:
    worker: Worker
    spell: object  # the membership it began in
    numbers: Sequence[int]


class Promises:
    def __init__(self, world: World) -> None:
        self._world = world
        self._plans = world.plans
        self._by_key: dict[bytes, list[int]] = defaultdict(list)
        for plan in world.plans:
            if plan.key is not None:
                self._by_key[plan.key].append(plan.number)
        self.runs: dict[Run, None] = {}
        self.done: set[int] = set()  # took effect in a live owner
        self.returned: set[int] = set()  # its handler came to its end
        self._finished: set[tuple[Ownership, str, int, int]] = set()  # by whom, and where it was read
        self._told: set[int] = set()  # a stored status says that it is done
        self._numbers: dict[tuple[int, int], int] = {}  # by their places in the source
        self.dead: set[int] = set()
        self.discarded: set[int] = set()
        self.replayed: set[int] = set()
        self.cancelled: set[int] = set()  # somebody ordered it, whatever has become of it
        self.withdrawn: set[int] = set()  # ended as cancelled, in a live owner
        self.heard: dict[Worker, set[int]] = defaultdict(set)  # the orders that have reached a worker
        self._told_cancelled: set[int] = set()
        self.expired: set[int] = set()  # fell out of retention unread
        self.settled: set[int] = set()  # finished, and a stored commit says so
        self.forgotten = False  # commits were damaged, deleted or rolled back: what they covered may run again
        self.repeats = 0
        self.effects = 0
        self._last: dict[tuple[bytes, object], int] = {}
        self._levels: dict[int, list[Level]] = defaultdict(list)  # the levels a record was stored at
        self._fences: dict[tuple[int, int], list[Fence]] = defaultdict(list)
        self._open: dict[tuple[int, int], dict[int, Rec]] = defaultdict(dict)  # not covered by a commit yet

    def _break(self, text: str, number: int | None = None) -> NoReturn:
        """The world ends with it, whoever catches it: the engine takes what a handler raises for its outcome."""
        error = BrokenPromiseError(text, number)
        self._world.failure = self._world.failure or error
        raise error

    # -- handlers --------------------------------------------------------------------------------------------------

    def begin(self, worker: Worker, numbers: Sequence[int], records: Sequence[Rec]) -> Run:
        run = Run(worker, worker.spell, numbers)
        keys = {self._plans[number].key for number in numbers} - {None}
        for other in self.runs:
            if not other.numbers or not (other.worker is worker or self._live(other)):
                continue
            both = keys & {self._plans[number].key for number in other.numbers}
            if both and (other.worker is worker or worker.owns(self._plans[numbers[0]].partition)):
                self._break(f"{other.worker.name} and {worker.name} run {both} at once", numbers[0])
        for number, record in zip(numbers, records, strict=True):
            due = parse_moved(record.headers).due
            if len(numbers) == 1 and number in self.heard[worker] and number not in self.replayed:
                self._break(f"#{number} begins although {worker.name} was ordered to cancel it", number)
            if due > self._world.now + 0.001:  # headers hold milliseconds
                self._break(f"#{number} runs {due - self._world.now:.3f} s before its time", number)
        self._world.note(f"{worker.name} runs {_named(numbers)}")
        self.runs[run] = None
        return run

    def _live(self, run: Run) -> bool:
        return run.worker.alive and run.worker.spell is run.spell and run.spell is not None

    def end(self, run: Run) -> None:
        self.runs.pop(run, None)

    def died(self, worker: Worker) -> None:
        """What a dead process ran runs no more."""
        for run in [run for run in self.runs if run.worker is worker]:
            del self.runs[run]

    def effect(self, worker: Worker, number: int) -> None:
        plan = self._plans[number]
        if not worker.owns(plan.partition):
            self._world.note(f"effect of #{number} in the zombie {worker.name}")
            return
        self._world.note(f"effect of #{number} in {worker.name}")
        self.effects += 1
        if number in self.done:
            self._repeated(number)
        elif plan.key is not None:
            self._first(plan)
        if plan.key is not None and number not in self.replayed | self.expired and not self.forgotten:
            self._in_order(worker, plan)
        self.done.add(number)

    def _repeated(self, number: int) -> None:
        self.repeats += 1
        if number in self.settled and number not in self.replayed and not self.forgotten:
            self._break(f"#{number} took effect again although a commit covered it", number)

    def _first(self, plan: Plan) -> None:
        ended = self.done | self.discarded | self.expired | self.cancelled | (set() if plan.type == HOLD else self.dead)
        line = self._by_key[plan.key or b""]
        earlier = [n for n in line if self._plans[n].offset < plan.offset and self._plans[n].published]
        if waiting := [n for n in earlier if n not in ended]:
            self._break(f"#{plan.number} of {plan.key!r} took effect before {_named(waiting)}", plan.number)
        if plan.number in self.replayed | self.discarded | self.expired or self.forgotten:
            return
        if later := [n for n in line if n in self.done and self._plans[n].offset > plan.offset]:
            self._break(f"#{plan.number} of {plan.key!r} took effect after {_named(later)}", plan.number)

    def _in_order(self, worker: Worker, plan: Plan) -> None:
        """A run whose time was up after its effect is made anew; one that came to its end is not, nor one before it."""
        if plan.offset <= self._last.get((plan.key or b"", worker.ownership), -1):
            self._break(f"#{plan.number} took effect behind a later one, in one ownership", plan.number)

    def succeeded(self, worker: Worker, numbers: Sequence[int], records: Sequence[Rec]) -> None:
        for number, record in zip(numbers, records, strict=True):
            if worker.owns(record.partition):
                if number not in self.replayed:
                    self._last[self._plans[number].key or b"", worker.ownership] = self._plans[number].offset
                self.returned.add(number)
                self._finished.add((worker.ownership, record.topic, record.partition, record.offset))

    def withdrew(self, worker: Worker, record: Rec) -> None:
        """A record ended as cancelled."""
        number = number_of(record.value)
        self._world.note(f"{worker.name} ends #{number} as cancelled")
        if number not in self.cancelled:
            self._break(f"#{number} ends as cancelled, and nobody ordered it", number)
        if worker.owns(record.partition):
            self.withdrawn.add(number)

    # -- the broker ------------------------------------------------------------------------------------------------

    def stored(self, shelf: int, record: Rec) -> None:
        """A record was written into a topic of the family."""
        moved = parse_moved(record.headers)
        if moved.control is not None:
            return
        number = number_of(record.value)
        if shelf == SHELF_SOURCE:
            self._numbers[record.partition, record.offset] = number
        level = headers.SOURCE if shelf == SHELF_SOURCE else moved.level
        assert level is not None
        self._levels[number].append(level)
        if shelf == headers.DLT and not moved.follower:
            self.dead.add(number)
        self._open[record.partition, shelf][record.offset] = record

    def expire(self, place: tuple[int, int], start: int) -> None:
        """Retention took what lay before ``start``: nobody promises what no commit covers of it."""
        taken = self._world.cluster.broker.logs[place] if self.forgotten else self._open[place].values()
        self.expired |= {number_of(record.value) for record in taken if record.offset < start and record.value}

    def committed(self, ownership: Ownership, offsets: Mapping[tuple[int, int], tuple[int, str]]) -> None:
        """A commit was stored: it covers nothing that is not finished, or stored further on."""
        for place, (low, text) in offsets.items():
            known, waiting, fences = commit_map.decode(low, text), self._open[place], self._fences[place]
            if known.fence is not None and known.fence not in fences[-1:]:
                fences.append(known.fence)
            finished = known.finished
            for offset in list(waiting):
                if offset < low or any(start <= offset < end for start, end in finished):
                    record = waiting.pop(offset)
                    if not _fenced(record, fences):
                        self._covered(ownership, place, record)

    def _covered(self, ownership: Ownership, place: tuple[int, int], record: Rec) -> None:
        number = number_of(record.value)
        if (ownership, record.topic, record.partition, record.offset) in self._finished:
            self.settled.add(number)
            if self._world.tracking and number not in self._told:
                self._break(f"a commit covers #{number}, and nobody was told that it is done", number)
        if number in self.returned or self.forgotten:
            return
        if number in self.withdrawn:
            if self._world.tracking and number not in self._told_cancelled:
                self._break(f"a commit covers #{number}, and nobody was told that it is cancelled", number)
            return
        level = headers.SOURCE if place[1] == SHELF_SOURCE else parse_moved(record.headers).level
        further_on = any(other > level for other in self._levels[number])
        twice = place[1] != SHELF_SOURCE and self._levels[number].count(level) > 1
        resolved = place[1] == headers.DLT and parse_moved(record.headers).hold is False
        if not (further_on or twice or resolved or number in self.discarded or number in self.expired):
            self._break(f"a commit covers #{number} at {place}@{record.offset}, not finished", number)

    def told(self, messages: Sequence[Message]) -> None:
        """Statuses were stored, and what became of dead letters."""
        source = self._world.family.topics[SHELF_SOURCE]
        for message in messages:
            if message.topic != STATUS:
                continue
            status = json.loads(message.value or b"")
            assert status["topic"] == source, "a status names the origin"
            told = {"completed": self._told, "cancelled": self._told_cancelled}.get(status["status"])
            if told is not None:
                told.add(self._numbers[status["partition"], status["offset"]])

    # -- memory, end -----------------------------------------------------------------------------------------------

    def check_memory(self, worker: Worker) -> None:
        core, limits = worker.engine.core, self._world.limits
        if len(core.running) > limits.concurrency:
            self._break(f"{len(core.running)} runs at once, {limits.concurrency} are allowed")
        for lanes in core.partitions.values():
            for shelf, track in lanes.tracks.items():
                if shelf == headers.DLT:
                    continue
                pending = track.pending
                if len(pending) > limits.records:
                    self._break(f"{len(pending)} records held of shelf {shelf}")
                if track.held_bytes != (sum([entry.size for entry in pending.values()]) if pending else 0):
                    self._break(f"the byte count of shelf {shelf} drifted from what is held")

    def unfinished(self) -> set[int]:
        letters = [r for p in range(self._world.partitions) for r in self._world.cluster.broker.open_dead_letters(p)]
        visible = {number_of(record.value) for record in letters}
        return self._world.wanted - self.returned - self.discarded - self.expired - self.withdrawn - visible


def _fenced(record: Rec, fences: Sequence[Fence]) -> bool:
    """Whether the owners pass over it as the late write of one before them."""
    mover = parse_moved(record.headers).mover
    valid = next((fence.mover for fence in reversed(fences) if fence.offset <= record.offset), mover)
    return mover not in {None, valid}


def _named(numbers: Any) -> str:
    return " ".join(f"#{number}" for number in numbers)

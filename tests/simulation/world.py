"""A seeded world: producers, workers, a broker, an operator; every step checks what keylane promises.

A step is one small thing that can happen: a poll, the end of a run, one acknowledgement, a crash between any two
of them. The same seed plays the same world.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

from streams.core import commit_map, headers, moves
from streams.core.commands import (
    NOT_RUN,
    SUCCEEDED,
    Append,
    Blocked,
    Commit,
    DeadLetter,
    Failed,
    Fetch,
    Pause,
    Resume,
    Run,
    Start,
)
from streams.core.group import Core, Limits
from streams.core.retry import RetryPolicy
from streams.core.track import SHELF_SOURCE, parse_moved
from tests.simulation.broker import Broker

FOREVER = 10**6


class BrokenPromiseError(AssertionError):
    """A promise did not hold."""


@dataclass
class Plan:
    """What the handler does with one published record."""

    key: bytes | None
    failures: int
    hold: bool
    final: bool = False


@dataclass
class Worker:
    """The synchronous shell around one core; what it has under way dies with it."""

    name: str
    core: Core
    positions: dict[tuple[int, int], int] = field(default_factory=dict)
    paused: set[tuple[int, int]] = field(default_factory=set)
    runs: list[Run] = field(default_factory=list)
    appends: dict[tuple[int, int], deque] = field(default_factory=lambda: defaultdict(deque))
    acks: list[tuple[object, int]] = field(default_factory=list)
    commit: Commit | None = None
    fetches: list[Fetch] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class World:
    def __init__(self, seed: int, *, records: int = 40) -> None:
        self.random = r = random.Random(seed)
        self.partitions = r.choice([1, 1, 2])
        self.tiers = tuple(float(2**n) for n in range(r.choice([1, 2, 3])))
        self.keys = [f"t/{n}".encode() for n in range(r.choice([1, 2, 4, 8]))]
        self.broker = Broker(self.partitions, len(self.tiers))
        self.limits = Limits(
            concurrency=r.choice([1, 3, 100]),
            records=r.choice([2, 5, 50]),
            bytes=r.choice([10**6, 400]),
            batch=r.choice([1, 1, 4]),
            linger=r.choice([0.0, 1.0]),
        )
        self.attempts = r.choice([1, 2, 3, len(self.tiers) + 1, 2 * len(self.tiers) + 2])
        self.in_place = r.choice([(), (0.5,)])
        self.now = 1_000.0
        self.plans: list[Plan] = []
        self.unpublished = records
        self.failed: Counter[int] = Counter()
        self.effects: dict[bytes, list[int]] = defaultdict(list)
        self.done: set[int] = set()
        self.discarded: set[int] = set()
        self.replayed: set[int] = set()
        self.reported: set[int] = set()  # done by the worker that is alive
        self.committing: set[int] = set()  # of these, when the commit under way was made
        self.settled: set[int] = set()  # done, and an acknowledged commit says so
        self.repeats = 0
        self.crashes = 0
        self.calm = False
        self.trace: list[str] = []
        self.names = 0
        self.zombies: list[Worker] = []
        self.worker = self.start_worker()

    # -- workers ---------------------------------------------------------------------------------------------------

    def start_worker(self) -> Worker:
        self.names += 1
        worker = Worker(f"w{self.names}", Core(self.tiers, self.limits))
        for p in range(self.partitions):
            shelves = {s: self.broker.shelf(p, s) for s in self.broker.shelves}
            worker.core.assigned(p, shelves, worker.name)
            worker.positions |= {(p, s): shelf.committed for s, shelf in shelves.items() if s != headers.DLT}
        self.note(f"assigned to {worker.name}")
        return worker

    def crash(self) -> None:
        self.crashes += 1
        self.reported = set()
        self.note("crash")
        if self.random.random() < 0.5:
            self.zombies.append(self.worker)  # it lost its partitions, but its last writes are still on their way
        self.worker = self.start_worker()

    def carry_out(self) -> None:
        worker = self.worker
        for command in worker.core.take_commands(self.now):
            match command:
                case Start():
                    for run in command.runs:
                        self.check_exclusive(run)
                        worker.runs.append(run)
                case Append() | DeadLetter():
                    worker.appends[command.entry.lane.lanes.partition, shelf_of(command)].append(command)
                case Pause():
                    worker.paused.add((command.partition, command.shelf))
                case Resume():
                    worker.paused.discard((command.partition, command.shelf))
                case Fetch():
                    worker.fetches.append(command)

    # -- the steps -------------------------------------------------------------------------------------------------

    def step(self) -> None:
        r = self.random
        kinds = [self.publish, self.poll, self.poll, self.finish, self.finish, self.write, self.acknowledge]
        kinds += [self.commit, self.commit_ends, self.fetch, self.pass_time, self.operate]
        r.choice(kinds)()
        if not self.calm and self.crashes < 15 and r.random() < 0.01:
            self.crash()
        self.carry_out()
        self.check_memory()

    def publish(self) -> None:
        if not self.unpublished:
            return
        self.unpublished -= 1
        r = self.random
        key = None if r.random() < 0.05 else r.choice(self.keys)
        failures = 0 if (x := r.random()) < 0.6 else r.randrange(1, 4) if x < 0.9 else FOREVER
        hold = key is not None and hash_of(key) % 2 == 0
        partition = hash_of(key or b"") % self.partitions
        self.plans.append(Plan(key, failures, hold, final=r.random() < 0.1))
        number = len(self.plans) - 1
        offset = self.broker.append(partition, SHELF_SOURCE, key, str(number).encode(), gap=r.choice([0, 0, 0, 2]))
        self.note(f"published #{number} key={key} at {offset} failures={failures} hold={hold}")

    def poll(self) -> None:
        worker = self.worker
        choices = [place for place in worker.positions if place not in worker.paused]
        if not choices:
            return
        p, s = self.random.choice(choices)
        records = self.broker.read(p, s, worker.positions[p, s], self.random.randrange(1, 8))
        if records:
            worker.positions[p, s] = records[-1].offset + 1
            worker.core.polled(p, s, records, self.now)

    def finish(self) -> None:
        runs = self.worker.runs
        if not runs:
            return
        start = runs.pop(self.random.randrange(len(runs)))
        failed_keys: set[bytes | None] = set()
        results = []
        for entry in start:
            result = NOT_RUN if entry.key is not None and entry.key in failed_keys else self.run(entry)
            if result is not SUCCEEDED:
                failed_keys.add(entry.key)
            results.append(result)
        self.worker.core.finished(start, results, self.now)

    def run(self, entry):
        number = int(entry.record.value)
        plan = self.plans[number]
        if self.random.random() < 0.03:
            return Blocked(1.0)
        if self.failed[number] >= plan.failures:
            self.effect(number, plan)
            return SUCCEEDED
        self.failed[number] += 1
        policy = RetryPolicy(attempts=self.attempts, in_place=self.in_place, on_dead="hold" if plan.hold else "skip")
        after = self.random.choice([None, None, 0.2, 3.0])
        self.note(f"failed #{number} at {entry}")
        return Failed(policy, "boom", final=plan.final, after=after, draw=self.random.random())

    def write(self) -> None:
        """The broker stores the next batch of one target; a zombie's may land as well."""
        worker = self.random.choice([self.worker, self.worker, *self.zombies])
        targets = [target for target, queue in worker.appends.items() if queue]
        if not targets:
            return
        p, s = self.random.choice(targets)
        for _ in range(min(len(worker.appends[p, s]), self.random.randrange(1, 9))):
            self.store(worker, p, s, worker.appends[p, s].popleft())

    def store(self, worker: Worker, p: int, s: int, command: Append | DeadLetter) -> None:
        entry = command.entry
        reason = {headers.CLASSIFICATION: "exhausted"} if isinstance(command, DeadLetter) else {}
        value = headers.replaced(entry.record.headers, moves.way(command, worker.name) | reason)
        offset = self.broker.append(p, s, entry.key, entry.record.value, value)
        self.note(f"{worker.name} wrote #{entry.record.value.decode()} {entry} -> {command.level}@{offset}")
        worker.acks.append((command, offset))

    def acknowledge(self) -> None:
        """Acknowledgements of one target come in order; those of different targets in any."""
        acks = self.worker.acks
        if not acks:
            return
        chosen = self.random.choice(acks)
        first = next(a for a in acks if target_of(a) == target_of(chosen))
        acks.remove(first)
        self.worker.core.appended(first[0], first[1], self.now)

    def commit(self) -> None:
        worker = self.worker
        if worker.commit is None:
            worker.commit = worker.core.commit()
            self.committing = set(self.reported)

    def commit_ends(self) -> None:
        worker = self.worker
        if worker.commit is None:
            return
        request, worker.commit = worker.commit, None
        fate = self.random.random()
        if self.calm or fate < 0.85:
            self.check_commit(request)
            self.broker.commits |= request.offsets
            self.settled |= self.committing
        elif fate < 0.95:  # the broker refuses some of the partitions
            self.broker.commits |= {p: at for p, at in request.offsets.items() if self.random.random() < 0.5}
        worker.core.committed(acknowledged=self.calm or fate < 0.8, now=self.now)  # stored, but the answer was lost

    def fetch(self) -> None:
        if self.worker.fetches:
            request = self.worker.fetches.pop()
            record = self.broker.read(request.partition, headers.DLT, request.offset, 1)[0]
            self.worker.core.fetched(request.partition, record, self.now)

    def pass_time(self) -> None:
        self.now += self.random.choice([0.1, 1.0])
        self.worker.core.tick(self.now)

    def operate(self) -> None:
        if self.random.random() > 0.2:
            return
        found = self.broker.open_dead_letters(self.random.randrange(self.partitions))
        if not found:
            return
        record = self.random.choice(found)
        number = int(record.value)
        if self.random.random() < 0.3:
            self.note(f"discard #{number}@{record.offset}")
            self.discarded.add(number)
            self.broker.discard(record)
        else:
            self.note(f"replay #{number}@{record.offset}")
            self.plans[number].failures = min(self.plans[number].failures, self.failed[number] + 1)
            self.replayed.add(number)
            self.broker.replay(record)

    # -- the promises ----------------------------------------------------------------------------------------------

    def effect(self, number: int, plan: Plan) -> None:
        self.note(f"effect #{number}")
        self.reported.add(number)
        if number in self.done:
            self.repeats += 1
            if not self.crashes:
                raise BrokenPromiseError(f"#{number} ran twice without a crash")
            if number in self.settled and number not in self.replayed:
                raise BrokenPromiseError(f"#{number} ran again although a commit covered it")
            return
        self.done.add(number)
        if plan.key is None or (not plan.hold and number in self.replayed):
            return  # a skipped key went on without it
        if number in self.discarded:
            return  # the operator replayed a zombie's copy of what was discarded: the key had gone on
        later = [n for n in self.effects[plan.key] if n > number]
        if later:
            raise BrokenPromiseError(f"#{number} of {plan.key} took effect after {later}")
        self.effects[plan.key].append(number)

    def check_exclusive(self, start: Run) -> None:
        keys = {e.key for run in self.worker.runs for e in run if e.key is not None}
        for entry in start:
            if parse_moved(entry.record.headers).due > self.now:
                raise BrokenPromiseError(f"{entry} runs before its time")
            if entry.key in keys:
                raise BrokenPromiseError(f"two runs of {entry.key} at once")

    def check_memory(self) -> None:
        core = self.worker.core
        if len(core.running) > self.limits.concurrency:
            raise BrokenPromiseError("more runs than slots")
        for lanes in core.partitions.values():
            for shelf, track in lanes.tracks.items():
                if shelf == headers.DLT:
                    continue
                if len(track.pending) > self.limits.records:
                    raise BrokenPromiseError(f"{len(track.pending)} records held of shelf {shelf}")
                if track.held_bytes != sum(e.size for e in track.pending.values()):
                    raise BrokenPromiseError("the byte count drifted from what is held")

    def check_commit(self, request: Commit) -> None:
        """A commit never says that a source record is finished which is neither done nor stored elsewhere."""
        for (p, s), (offset, text) in request.offsets.items():
            if s != SHELF_SOURCE:
                continue
            finished = commit_map.decode(offset, text).finished
            moved = {int(r.value) for sh in self.broker.shelves if sh != s for r in self.broker.logs[p, sh] if r.value}
            for record in self.broker.logs[p, s]:
                number = int(record.value)
                said = record.offset < offset or any(a <= record.offset < b for a, b in finished)
                if said and number not in self.done and number not in moved:
                    raise BrokenPromiseError(f"the commit covers #{number}, which is not finished")

    def settle(self) -> None:
        """Faults stop; everything must end within a bounded number of steps."""
        self.calm = True
        for _ in range(60_000):
            if self.finished():
                return
            self.step()
        raise BrokenPromiseError(f"no progress: {self.unfinished()}")

    def unfinished(self) -> set[int]:
        return set(range(len(self.plans))) - self.done - self.discarded - self.dead_and_skipped()

    def dead_and_skipped(self) -> set[int]:
        return {int(r.value) for p in range(self.partitions) for r in self.broker.open_dead_letters(p)}

    def finished(self) -> bool:
        core = self.worker.core
        idle = core.drained and not any(w.fetches or w.commit for w in [self.worker])
        read = all(self.worker.positions[place] >= self.broker.ends[place] for place in self.worker.positions)
        held = any(lanes.held.keys for lanes in core.partitions.values())
        empty = all(
            not {id(e) for e in track.pending.values()} - {id(pin) for pin in lanes.freed_early.values()}
            for lanes in core.partitions.values()
            for s, track in lanes.tracks.items()
            if s != headers.DLT
        )
        return not self.unpublished and idle and read and empty and not held and not self.unfinished()

    def note(self, text: str) -> None:
        self.trace.append(text)


def shelf_of(command: Append | DeadLetter) -> int:
    return command.level.tier


def target_of(ack) -> tuple[int, int]:
    return ack[0].entry.lane.lanes.partition, shelf_of(ack[0])


def hash_of(key: bytes) -> int:
    return sum(key)


def play(seed: int, steps: int = 1_500) -> World:
    world = World(seed)
    try:
        for _ in range(steps):
            world.step()
        world.settle()
    except Exception as error:
        story = "\n".join(world.trace[-80:])
        raise BrokenPromiseError(f"seed {seed}: {error!r}\n{story}") from error
    return world

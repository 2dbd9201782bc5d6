"""Which dead letters a replay or a discard takes, in which order, and what it writes.

Invariant: within a partition the order is that of the levels, highest generation first, then as they died, which is
origin order for every key; a held key's dead letter is never replayed over an earlier one that stays behind.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from streams.core import headers as h
from streams.core.deadletter import ALIASES, OF_ONE_FAILURE
from streams.core.headers import Level, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Kind = Literal["replay", "discard"]
State = Literal["open", "replayed", "resolved", "discarded", "parked", "waiting"]
STATES: tuple[State, ...] = ("open", "replayed", "resolved", "discarded", "parked", "waiting")

# What each kind may take. Parked: replayed too often; waiting: a follower, which the engine runs by itself.
TAKES: dict[Kind, frozenset[State]] = {"replay": frozenset({"open"}), "discard": frozenset({"open", "parked"})}


class Where(NamedTuple):
    """A partition of a dead-letter topic."""

    topic: str
    partition: int


class Candidate(NamedTuple):
    """A dead letter as the planner sees it.

    ``wanted``: the operator's filters match. ``operation``: the unfinished replay or discard that took it.
    ``twin``: the offset of the later copy that stands for it, where a worker wrote it twice.
    """

    where: Where
    offset: int
    generation: int
    key: bytes | None
    held: bool
    state: State
    wanted: bool
    operation: str | None = None
    twin: int | None = None


class Refusal(NamedTuple):
    """A dead letter that was asked for and is left alone, with the reason as a sentence."""

    where: Where
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        offsets: Per partition, in the order to write.
        twins: Per partition, held copies to set free with the record that stands for them.
        passed_over: How many were asked for whose state needs nothing, by state.
    """

    offsets: dict[Where, tuple[int, ...]]
    twins: dict[Where, dict[int, tuple[int, ...]]] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    passed_over: dict[State, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.offsets.values()))


class _Held(NamedTuple):
    order: tuple[int, int]
    taken: bool


class Planner:
    """Collects candidates in any order; its memory is some 16 bytes per dead letter taken, more for held keys."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._taken: dict[Where, dict[int, array[int]]] = defaultdict(lambda: defaultdict(lambda: array("q")))
        self._held: dict[tuple[Where, bytes], list[_Held]] = defaultdict(list)
        self._twins: dict[Where, dict[int, tuple[int, ...]]] = defaultdict(dict)
        self._refusals: list[Refusal] = []
        self._passed_over: Counter[State] = Counter()

    def consider(self, candidate: Candidate) -> None:
        """Take note of one dead letter, asked for or not."""
        if candidate.twin is not None:
            self._twin(candidate, candidate.twin)
            return
        taken = candidate.wanted and self._take(candidate)
        unsettled = candidate.state in {"open", "parked"}
        if candidate.held and candidate.key is not None and unsettled:
            order = (-candidate.generation, candidate.offset)
            self._held[candidate.where, candidate.key].append(_Held(order, taken))

    def _twin(self, candidate: Candidate, stands_for: int) -> None:
        if candidate.held:
            twins = self._twins[candidate.where]
            twins[stands_for] = (*twins.get(stands_for, ()), candidate.offset)

    def _take(self, candidate: Candidate) -> bool:
        if candidate.state not in TAKES[self._kind]:
            self._passed_over[candidate.state] += 1
            return False
        if candidate.operation is not None:
            reason = f"it belongs to {candidate.operation}, which has not finished: resume that with --replay-id"
            self._refusals.append(Refusal(candidate.where, candidate.offset, reason))
            return False
        self._taken[candidate.where][candidate.generation].append(candidate.offset)
        return True

    def plan(self, limit: int | None = None) -> Plan:
        """The plan; with ``limit`` only its first so many, which never leaves out one before another of its key."""
        blocked = dict(self._blocked()) if self._kind == "replay" else {}
        kept = ((where, offset) for where, offset in self._ordered() if (where, offset) not in blocked)
        offsets: dict[Where, list[int]] = defaultdict(list)
        for where, offset in islice(kept, limit):
            offsets[where].append(offset)
        refused = [Refusal(*place, reason) for place, reason in blocked.items()]
        return Plan(
            offsets={where: tuple(found) for where, found in offsets.items()},
            twins={
                where: {k: v for k, v in self._twins[where].items() if k in set(found)}
                for where, found in offsets.items()
                if where in self._twins
            },
            refusals=tuple(sorted(self._refusals + refused)),
            passed_over=dict(self._passed_over),
        )

    def _ordered(self) -> Iterator[tuple[Where, int]]:
        for where in sorted(self._taken):
            for generation in sorted(self._taken[where], reverse=True):
                yield from ((where, offset) for offset in sorted(self._taken[where][generation]))

    def _blocked(self) -> Iterator[tuple[tuple[Where, int], str]]:
        for (where, key), entries in self._held.items():
            blocker: int | None = None
            for (_, offset), taken in sorted(entries):
                if not taken:
                    blocker = offset if blocker is None else blocker
                elif blocker is not None:
                    shown = key.decode(errors="replace")
                    yield (
                        (where, offset),
                        f"the key {shown} is held and offset {blocker} died before it: replay or discard that first",
                    )


def replay_headers(
    record_headers: Sequence[tuple[str, bytes]], where: Where, offset: int, replay_id: str
) -> list[tuple[str, bytes]]:
    """The headers of a dead letter's copy in ``retry.0``: a fresh start one generation up, the origin kept."""
    # Without a mover the engine takes the copy for an operator's, not for the late write of a worker that was replaced.
    cleared = dict.fromkeys((*OF_ONE_FAILURE, *ALIASES, h.MOVER, h.CONTROL))
    replays = (h.number(record_headers, h.REPLAYS) or 0) + 1
    fresh = {h.ATTEMPTS: "0", h.REPLAYS: str(replays), h.ENTRY: f"{where.topic}/{where.partition}/{offset}"}
    return h.replaced(record_headers, {**cleared, **_way(record_headers, offset, replay_id), **fresh})


def discard_headers(
    record_headers: Sequence[tuple[str, bytes]], offset: int, replay_id: str
) -> list[tuple[str, bytes]]:
    """The headers of the control record that frees a held key without running its dead letter."""
    origin = (h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET, h.ORIGIN_TIMESTAMP)
    kept = [(name, value) for name, value in record_headers if name in origin]
    return h.replaced(kept, {**_way(record_headers, offset, replay_id), h.CONTROL: h.DISCARD})


def _way(record_headers: Sequence[tuple[str, bytes]], offset: int, replay_id: str) -> dict[str, str]:
    generation = generation_of(record_headers)
    place = Place(h.dlt_level(generation), offset)
    return {
        h.LEVEL: h.format_level(Level(generation + 1, 0, 0)),
        h.FROM: h.format_place(place),
        h.REPLAY_ID: replay_id,
    }


def generation_of(record_headers: Iterable[tuple[str, bytes]]) -> int:
    """The generation a dead letter belongs to; 0 where its headers name none."""
    level = h.parse_level(h.header(record_headers, h.LEVEL))
    return 0 if level is None else max(level.generation, 0)


class TokenBucket:
    """Spreads work evenly: ``rate`` per second, at most ``burst`` at once; a rate of 0 or less is no limit."""

    def __init__(self, rate: float, now: float, burst: float = 1.0) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float) -> float:
        """Take a token; the seconds to wait before using it."""
        if self._rate <= 0:
            return 0.0
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

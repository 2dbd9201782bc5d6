"""Compares what was acknowledged with what the ledger holds: lost, out of order, twice, and how old what ran twice was.

Invariant: it reads the ledger's file, the list of publications and the dead-letter topic, and nothing of the workers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.chaos.handlers import fails_for_ever

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    Row = Mapping[str, Any]

PLAIN, ONCE = "chaos.write", "chaos.pay"
# Seconds an effect may be older than the fault that let it run again: it just missed a commit under way, then come the
# interval of 100 ms and the next one, each with its job statuses stored before it. On an idle machine that is 0.2 s.
SLACK = 1.0


class Window(NamedTuple):
    """From when to when a fault hit; ``pids`` None: all workers. Seconds since the epoch; ``slack`` beside them."""

    begin: float
    end: float
    pids: frozenset[int] | None = None
    slack: float = SLACK

    def hit(self, effect: Row) -> bool:
        """Whether it was a fault of the worker that made the effect."""
        return self.pids is None or effect["worker"] in self.pids

    def explains(self, effect: Row) -> bool:
        """Whether work that ended then may have missed its commit."""
        return self.hit(effect) and self.begin - self.slack <= effect["at"] <= self.end + self.slack


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What became of the jobs of one run.

    Attributes:
        unknown: Published without an answer: they may be there or not, and take any place among the others.
        unexplained: Ran twice although no fault stood between the runs.
        strangers: Took effect and were never published, or had to fail.
        behind: Records the drained group has not committed.
        ended: Workers that ended by themselves.
        codes: The workers' exit codes.
        oldest: Seconds from the effect to the fault that made it run again, at most.
        stand_still: Seconds between two effects, at most.
    """

    acknowledged: int
    unknown: int
    dead: int
    lost: Sequence[str] = ()
    inversions: int = 0
    duplicates: int = 0
    once_duplicates: int = 0
    unexplained: Sequence[str] = ()
    strangers: Sequence[str] = ()
    behind: int = 0
    ended: Sequence[str] = ()
    codes: Sequence[int] = ()
    oldest: float = 0.0
    stand_still: float = 0.0

    @property
    def findings(self) -> list[str]:
        """Every promise that was broken, one sentence each."""
        found = {
            "run without a single record": not self.acknowledged,
            f"lost, such as {self.lost[:3]}": len(self.lost),
            "took effect before an earlier one of their key": self.inversions,
            "once jobs ran twice": self.once_duplicates,
            f"ran twice without a fault, such as {self.unexplained[:3]}": len(self.unexplained),
            f"effects of what nobody published, such as {self.strangers[:3]}": len(self.strangers),
            "records not committed by the drained group": self.behind,
            f"workers that ended by themselves: {list(self.ended)}": len(self.ended),
            f"workers that ended badly: {list(self.codes)}": sum(map(bool, self.codes)),
        }
        return [f"{int(count)} {what}" for what, count in found.items() if count]


@dataclass(slots=True)
class Effects:
    """The ledger's file, read as it grows."""

    path: Path
    rows: list[Row] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    _read: int = 0

    def refresh(self) -> None:
        """Read what has been added; a line that is not whole yet is left for the next time."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        found = [row for line in whole.splitlines() if (row := json.loads(line))["note"] == "effect"]
        self.rows += [row | {"place": place} for place, row in enumerate(found, len(self.rows))]
        self.ids.update(row["id"] for row in found)


def published(path: Path) -> list[Row]:
    """What the load maker has noted so far."""
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def unfinished(jobs: Iterable[Row], done: Collection[str], dead: Collection[str]) -> list[str]:
    """Acknowledged jobs that have neither taken effect nor ended as the dead letter they have to be."""
    return [
        job["id"]
        for job in jobs
        if job["offset"] is not None and job["id"] not in (dead if fails_for_ever(job["number"]) else done)
    ]


def prove(
    jobs: Sequence[Row],
    effects: Sequence[Row],
    dead: Collection[str],
    faults: Sequence[Window],
    *,
    behind: int,
    codes: Sequence[int],
    ended: Sequence[str] = (),
) -> Proof:
    """The figures of a run that has ended."""
    by_id: dict[str, list[Row]] = defaultdict(list)
    for effect in effects:
        by_id[effect["id"]].append(effect)
    repeated = {name: rows for name, rows in by_id.items() if len(rows) > 1}
    acknowledged = [job for job in jobs if job["offset"] is not None]
    return Proof(
        acknowledged=len(acknowledged),
        unknown=len(jobs) - len(acknowledged),
        dead=len(dead),
        lost=unfinished(jobs, by_id, dead),
        inversions=_inversions(acknowledged, by_id),
        duplicates=sum(len(rows) - 1 for rows in repeated.values()),
        once_duplicates=sum(len(rows) - 1 for rows in repeated.values() if rows[0]["type"] == ONCE),
        unexplained=[name for name, rows in repeated.items() if not _explained(rows, faults)],
        strangers=_strangers(jobs, by_id),
        behind=behind,
        ended=ended,
        codes=codes,
        oldest=max((_age(pair, faults) for rows in repeated.values() for pair in pairwise(rows)), default=0.0),
        stand_still=max((b["at"] - a["at"] for a, b in pairwise(effects)), default=0.0),
    )


def _inversions(acknowledged: Iterable[Row], by_id: Mapping[str, Sequence[Row]]) -> int:
    """How often a job first took effect before an earlier one of its key; the log's order is the publish order."""
    keys: dict[str, list[Row]] = defaultdict(list)
    for job in acknowledged:
        if job["id"] in by_id:
            keys[job["key"]].append(job)
    count = 0
    for jobs in keys.values():
        jobs.sort(key=lambda job: job["offset"])
        first = [by_id[job["id"]][0]["place"] for job in jobs]
        count += sum(later < earlier for earlier, later in pairwise(first))
    return count


def _explained(rows: Sequence[Row], faults: Sequence[Window]) -> bool:
    """Whether a fault stands between every run and the next: it hit the first, or let a frozen worker wake up late."""
    return all(any(fault.explains(row) for fault in faults for row in pair) for pair in pairwise(rows))


def _age(pair: tuple[Row, Row], faults: Sequence[Window]) -> float:
    """How long before a fault of its worker the effect had happened that a fault stands by; 0 in the midst of one."""
    row = next((row for row in pair if any(fault.explains(row) for fault in faults)), pair[0])
    ages = [
        max(0.0, fault.begin - row["at"]) for fault in faults if fault.hit(row) and row["at"] <= fault.end + fault.slack
    ]
    return min(ages, default=0.0)


def _strangers(jobs: Iterable[Row], by_id: Iterable[str]) -> list[str]:
    """Effects of what nobody published, or of what must never succeed."""
    wanted = {job["id"] for job in jobs if not fails_for_ever(job["number"])}
    return sorted(set(by_id) - wanted)

"""Plays many worlds on all cores it may use; the seeds are dealt out in chunks, and a failing one is made small."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.play import play
from tests.simulation.shrink import shrink, story

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 25
ENOUGH = 5  # broken worlds
_NICE = 10


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of some seeds; ``seconds`` of CPU time; ``counts``: what happened; ``failed``: the stories, by seed."""

    worlds: int = 0
    effects: int = 0
    repeats: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: tuple[tuple[int, str], ...] = ()

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            self.worlds + other.worlds,
            self.effects + other.effects,
            self.repeats + other.repeats,
            self.seconds + other.seconds,
            self.counts + other.counts,
            self.failed + other.failed,
        )

    def __str__(self) -> str:
        return (
            f"{self.worlds} worlds, {self.counts['faults']} faults, {self.effects} effects ({self.repeats} repeated), "
            f"{self.seconds:.0f} s of CPU time, {len(self.failed)} broken"
        )


def play_many(first: int, count: int) -> Iterator[Summary]:
    """Yield what has come of the seeds so far, chunk by chunk."""
    starts = range(first, first + count, CHUNK)
    sizes = [min(CHUNK, first + count - start) for start in starts]
    total = Summary()
    # Not forked: a test runner has threads. Nice: worlds have a clock of their own, what runs beside them has not.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), mp_context=context, initializer=os.nice, initargs=(_NICE,)
    ) as pool:
        for found in pool.map(play_some, starts, sizes):
            total += found
            yield total
            if len(total.failed) >= ENOUGH:
                pool.shutdown(cancel_futures=True)
                return


def play_some(first: int, count: int) -> Summary:
    """Play these seeds here; the first that fails is made small."""
    started = time.process_time()
    total = Summary()
    for seed in range(first, first + count):
        played = play(seed)
        failed: tuple[tuple[int, str], ...] = ()
        if played.error is not None:
            failed = ((seed, story(played if total.failed else shrink(played))),)
        total += Summary(1, played.effects, played.repeats, counts=played.counts, failed=failed)
    return total + Summary(seconds=time.process_time() - started)

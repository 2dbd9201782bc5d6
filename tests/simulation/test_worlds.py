"""Plays seeded worlds: the real engine against crashes, zombies, rebalances and a broker that misbehaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest

from tests.simulation.many import play_many
from tests.simulation.play import play

SEEDS = 2_000
ROOT = Path(__file__).parents[2]

# How often it happens in a world, at least, on average: worlds in which nothing goes wrong prove little.
OFTEN = {
    "crash": 2.0,
    "zombie": 1.0,
    "restart": 0.5,
    "rebalance": 0.5,
    "keylane_rebalances_total": 5.0,  # partitions taken over
    "failed": 3.0,  # commits without an answer, or refused
    "lost": 1.0,  # commits of those who owned no more
    "keylane_retries_total": 5.0,
    "keylane_followers_total": 10.0,
    "keylane_dead_letters_total": 3.0,
    "acts of operators": 3.0,
    "commit-partial": 0.5,
    "delivered-twice": 0.5,
    "gap": 3.0,
    "cancel": 1.0,
}
# What need not be in every world, but must not be missing.
SOMETIMES = {
    "commits-rolled-back": 50,
    "disk-full": 50,
    "full maps": 10,
    "head-expired": 100,
    "keylane_log_gap_records_total": 50,  # lost unread
    "keylane_watchdog_rebuilds_total": 100,
    "metadata-damaged": 50,
    "offsets-deleted": 30,
    "write-unanswered": 100,
}


@pytest.mark.timeout(900)  # two quiet cores need less than a minute
def test_every_promise_holds_in_every_world() -> None:
    total = deque(play_many(0, SEEDS), maxlen=1).pop()
    assert not total.failed, "\n\n".join(story for _, story in total.failed)
    assert total.worlds == SEEDS
    assert total.effects > 10 * SEEDS
    assert total.repeats > SEEDS, "what is never repeated is never repeated in the wrong order"
    counts = total.counts
    assert not {name: counts[name] / SEEDS for name, least in OFTEN.items() if counts[name] < least * SEEDS}
    assert not {name: counts[name] for name, least in SOMETIMES.items() if counts[name] < least}


@pytest.mark.parametrize("seed", [3, 19, 707])
def test_a_seed_plays_the_same_world_in_any_process(seed: int) -> None:
    command = f"from tests.simulation.play import play; print(play({seed}).digest)"
    told = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": chosen},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for chosen in ("1", "2")
    }
    assert told == {play(seed).digest}

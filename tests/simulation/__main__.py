"""``python -m tests.simulation``: plays many worlds, or one again with its whole story."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.many import Summary, play_many
from tests.simulation.play import play
from tests.simulation.shrink import shrink, story

_EVERY = 10.0  # seconds between two lines about the progress


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Play simulated worlds.")
    parser.add_argument("--seeds", type=int, default=2_000, help="how many worlds (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="play this one only, and tell its story")
    arguments = parser.parse_args()
    return _many(arguments.first, arguments.seeds) if arguments.seed is None else _one(arguments.seed)


def _one(seed: int) -> int:
    played = play(seed)
    print("\n".join(played.trace))
    if played.error is None:
        print(f"seed {seed}: every promise holds")
        return 0
    print(story(shrink(played)))
    return 1


def _many(first: int, seeds: int) -> int:
    told, total = time.monotonic(), Summary()
    for found in play_many(first, seeds):
        for _, text in found.failed[len(total.failed) :]:
            print(text, flush=True)
        total = found
        if time.monotonic() - told > _EVERY:
            told = time.monotonic()
            print(total, flush=True)
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())

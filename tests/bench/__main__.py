"""``make bench``: runs the scenarios against a real broker and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING

from streams.dev.stack import PARTS
from tests.bench import environment, page
from tests.bench.bench import Bench
from tests.bench.broker import servers
from tests.bench.launch import RunError
from tests.bench.page import Chapter
from tests.bench.scenarios import latency, memory, scaling, startup, throughput

if TYPE_CHECKING:
    from collections.abc import Callable


SCENARIOS: dict[str, Callable[[Bench], Chapter]] = {
    "noop": throughput.noop,
    "batch": throughput.batch,
    "waiting": throughput.waiting,
    "processes": scaling.processes,
    "partitions": scaling.partitions,
    "tracking": scaling.tracking,
    "metrics": scaling.metrics,
    "light": latency.light,
    "skew": latency.skew,
    "failing": latency.failing,
    "startup": startup.startup,
    "restore": memory.restore,
    "backlog": memory.backlog,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"of {','.join(SCENARIOS)}; the document is left alone then")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=300_000, help="records of a run")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only watch the memory under load")
    found = parser.parse_args()
    found.names = found.only.split(",") if found.only else list(SCENARIOS)
    if unknown := set(found.names) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    return found


def main() -> None:
    """Run what was asked for and print it; write it down if it was everything."""
    options = _options()
    peers = environment.python()
    with servers(tuple(PARTS)) as settings:
        bench = Bench(settings, peers, rounds=options.rounds, count=options.count)
        if options.soak:
            chapter = memory.soak(bench, options.soak)
            _print(chapter)
            page.write("soak", [chapter], f"make soak MINUTES={options.soak:g}")
            return
        chapters = [_run(bench, name) for name in options.names]
    if not options.only:
        page.write("results", chapters, f"make bench ROUNDS={options.rounds} COUNT={options.count}")
    if failed := [chapter.title for chapter in chapters if chapter.failed]:
        sys.exit(f"did not finish: {', '.join(failed)}")


def _run(bench: Bench, name: str) -> Chapter:
    bench.tell(f"{name}:")
    try:
        chapter = SCENARIOS[name](bench)
    except (RunError, OSError, subprocess.CalledProcessError) as error:  # the others are worth having
        bench.tell(f"{name} failed: {error}")
        chapter = Chapter(title=name, text="**It did not finish.**", failed=True)
    bench.forget()
    _print(chapter)
    return chapter


def _print(chapter: Chapter) -> None:
    print("\n".join(chapter.lines()), flush=True)


if __name__ == "__main__":
    main()

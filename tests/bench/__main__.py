"""``make bench``: runs the scenarios against a real broker and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tests.bench import environment, page
from tests.bench.bench import Bench
from tests.bench.broker import servers
from tests.bench.scenarios import throughput

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.page import Chapter

SCENARIOS: dict[str, Callable[[Bench], Chapter]] = {
    "noop": throughput.noop,
    "batch": throughput.batch,
    "waiting": throughput.waiting,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"of {','.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=300_000, help="records of a run")
    found = parser.parse_args()
    found.names = found.only.split(",") if found.only else list(SCENARIOS)
    if unknown := set(found.names) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    return found


def main() -> None:
    """Run what was asked for, print it, and write it down if it was everything."""
    options = _options()
    peers = environment.python()
    with servers() as settings:
        bench = Bench(str(settings.kafka_bootstrap_servers), peers, rounds=options.rounds, count=options.count)
        chapters = []
        for name in options.names:
            bench.tell(f"{name}:")
            chapters.append(SCENARIOS[name](bench))
            bench.forget()
            print("\n".join(chapters[-1].lines()), flush=True)
    page.write(page.document(chapters, _command(options)))


def _command(options: argparse.Namespace) -> str:
    only = f" ONLY={options.only}" if options.only else ""
    return f"make bench{only} ROUNDS={options.rounds} COUNT={options.count}"


if __name__ == "__main__":
    main()

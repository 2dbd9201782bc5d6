"""``python -m tests.bench.profile``: the no-op run of keylane in this process, plain and under cProfile."""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
import uuid
from typing import Any

import uvloop

from streams.history import TOPIC as STATUS_TOPIC
from tests.bench.broker import family_topics, make_topics, servers
from tests.bench.fill import Filling, fill
from tests.bench.result import Result
from tests.bench.systems import keylane
from tests.bench.task import Task, Work


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--sort", default="tottime")
    parser.add_argument("--top", type=int, default=40)
    for name in ("batch", "headers", "tracking", "plain"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def _run(task: Task) -> Result:
    async def measured() -> dict[str, Any]:
        work = Work(task)
        await keylane.program(task, work)
        return work.meter.report()

    return Result.of([uvloop.run(measured())])


def _task(options: argparse.Namespace, address: str, topic: str) -> Task:
    group = f"profile-{uuid.uuid4().hex[:6]}"
    make_topics(address, family_topics(topic, group))
    return Task(
        servers=address,
        topic=topic,
        group=group,
        count=options.count,
        result="",
        wait=options.wait,
        concurrency=options.concurrency,
        batch=options.batch,
        options={"tracking": options.tracking},
    )


def main() -> None:
    """Measure, then profile."""
    options = _options()
    with servers() as settings:
        address = str(settings.kafka_bootstrap_servers)
        topic = f"profile-{uuid.uuid4().hex[:6]}"
        make_topics(address, [topic, STATUS_TOPIC])
        fill(address, topic, Filling(count=options.count, headers=options.headers))
        for _ in range(2):
            task, started = _task(options, address, topic), time.process_time()
            line = _run(task).line
            spent = (time.process_time() - started) / options.count * 1e6
            print(f"plain: {line}, {spent:.1f} µs of CPU each")
        if not options.plain:
            task, profile = _task(options, address, topic), cProfile.Profile()
            found = profile.runcall(_run, task)
            pstats.Stats(profile).sort_stats(options.sort).print_stats(options.top)
            print("profiled:", found.line)


if __name__ == "__main__":
    main()

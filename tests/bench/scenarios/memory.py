"""How long a restore takes, and how much memory a worker holds, whatever there is to do."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from streams.settings import Settings
from tests.bench import bulk
from tests.bench.arithmetic import Spread, slope
from tests.bench.broker import drop_topics, family_topics, make_topics
from tests.bench.load import Load, Pacer
from tests.bench.page import Chapter, Target
from tests.bench.scenarios.latency import FAILING
from tests.bench.scenarios.throughput import KEYLANE

if TYPE_CHECKING:
    from tests.bench.bench import Bench

MB = 1_000_000
_RETRIES = 1_000_000
_BACKLOG = 10_000_000
_ALLOWED = 1.2  # times the bound
_LOOK = 20.0  # seconds a process is looked at
_BUSY = {"wait": 0.01, "count": _BACKLOG}


def restore(bench: Bench) -> Chapter:
    """A million retries are outstanding when the worker starts."""
    topic, group = bench.fresh_topic(bulk.PARTITIONS), f"g{uuid.uuid4().hex[:6]}"
    family = family_topics(topic, group)
    make_topics(bench.servers, family, bulk.PARTITIONS)
    filled = time.monotonic()
    bulk.retries(bench.servers, topic, group, _RETRIES)
    filled = time.monotonic() - filled
    firsts, peaks = [], []
    idle = _idle(bench)
    for _ in range(bench.rounds):
        bulk.publish_one(bench.servers, topic)
        run = bench.run_as(KEYLANE, topic, group, count=2, seconds=_LOOK)
        bench.tell(f"  first run after {run.result.first:.1f} s, {run.peak / MB:,.0f} MB")
        firsts.append(run.result.first)
        peaks.append((run.peak - idle) / MB)
    drop_topics(bench.servers, [topic, *family])
    return Chapter(
        title="Restore",
        text=f"{_RETRIES:,} records wait in the last tier, due in an hour, when a worker starts (writing them took "
        f"{filled:.0f} s). It scans them, commits its fences, and runs a record of a key that none of them has.",
        head=("", "seconds", "MB above an idle one"),
        rows=[[f"round {n}", f"{a:.1f}", f"{b:,.0f}"] for n, (a, b) in enumerate(zip(firsts, peaks, strict=True), 1)],
        targets=[
            Target(what="first run", found=Spread.of(firsts), bound=8, at_least=False, unit=" s"),
            _bounded("memory with a million retries", peaks),
        ],
    )


def backlog(bench: Bench) -> Chapter:
    """Ten million records wait, and handlers are slow."""
    topic = bench.fresh_topic(bulk.PARTITIONS)
    filled = time.monotonic()
    bulk.backlog(bench.servers, topic, _BACKLOG)
    filled = time.monotonic() - filled
    idle = _idle(bench)
    peaks = []
    for _ in range(bench.rounds):
        run = bench.once(KEYLANE, topic, bulk.PARTITIONS, seconds=_LOOK, **_BUSY)
        bench.tell(f"  {run.peak / MB:,.0f} MB")
        peaks.append((run.peak - idle) / MB)
    drop_topics(bench.servers, [topic])
    return Chapter(
        title="Memory under a backlog",
        text=f"{_BACKLOG:,} records wait in compressed batches (writing them took {filled:.0f} s), handlers take "
        f"10 ms, 100 run at once. The process without a record has {idle / MB:,.0f} MB.",
        head=("", "MB above an idle one"),
        rows=[[f"round {number}", f"{peak:,.0f}"] for number, peak in enumerate(peaks, 1)],
        targets=[_bounded("memory with a backlog of ten millions", peaks)],
    )


def _idle(bench: Bench) -> int:
    """Bytes of a process that has had one record."""
    topic = bench.fresh_topic(bulk.PARTITIONS)
    try:
        bulk.publish_one(bench.servers, topic)
        return bench.once(KEYLANE, topic, bulk.PARTITIONS, count=2, seconds=_LOOK / 2).peak
    finally:
        drop_topics(bench.servers, [topic])


def _bounded(what: str, peaks: list[float]) -> Target:
    bound = Settings.model_fields["max_bytes"].default * _ALLOWED / MB
    return Target(what=f"{what}, above an idle one", found=Spread.of(peaks), bound=bound, at_least=False, unit=" MB")


def soak(bench: Bench, minutes: float) -> Chapter:
    """Memory under a load that does not end."""
    load = Load(rate=500, seconds=minutes * 60)
    topic = bench.fresh_topic(load.partitions)
    pacer = Pacer(bench.servers, topic, load)
    try:
        run = bench.once(
            KEYLANE,
            topic,
            load.partitions,
            started=pacer.start,
            first=pacer.go,
            seconds=load.seconds,
            count=load.filling.count,
            aside=FAILING,
            # A failing key gets a record every 20 s and takes 8 s to give it up: no more pile up as time goes by.
            options={"failing": True, "tiers": (1.0, 2.0, 4.0)},
        )
    finally:
        pacer.stop()
        drop_topics(bench.servers, [topic])
    begin = run.weights[0][0]
    points = [((at - begin) / 60, weight / MB) for at, weight in run.weights]
    late = [point for point in points if point[0] > minutes / 3]
    marks = [next(point for point in points if point[0] >= share * points[-1][0]) for share in (0.1, 0.33, 0.66, 1.0)]
    return Chapter(
        title="Soak",
        text=f"{minutes:g} minutes of {load.rate} records/s, of which 5 % of the keys fail each time they run, into "
        f"tiers of 1, 2 and 4 s. {run.result.line}. The slope is that of the last two thirds, by least squares.",
        head=("minute", "MB"),
        rows=[[f"{minute:.1f}", f"{weight:,.1f}"] for minute, weight in marks],
        targets=[Target(what="slope", found=Spread.of([slope(late)]), bound=1, at_least=False, unit=" MB/min")],
    )

"""How long a record waits: under light load, beside a key with half of all records, beside keys that fail."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.bench.arithmetic import Spread, ratios
from tests.bench.bench import System
from tests.bench.fill import Filling
from tests.bench.load import Load
from tests.bench.page import RATES, Chapter, Target, rates
from tests.bench.scenarios.throughput import KEYLANE, LIMIT, compared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.bench import Bench
    from tests.bench.result import Result

TIMES = ("load", "P50 in ms", "P99 in ms")
_HOT = (0,)  # the key that has half of all records
FAILING = tuple(range(0, 10_000, 20))  # one key of twenty
_SECONDS = 9.0  # of a paced load, the warm part included
_SLOW = 0.01  # seconds a waiting handler sleeps


def times(results: Mapping[str, list[Result]]) -> list[list[str]]:
    """A row per load: the medians of its rounds."""
    return [
        [label, _ms([one.p50 for one in found]), _ms([one.p99 for one in found])] for label, found in results.items()
    ]


def _ms(seconds: list[float]) -> str:
    return f"{Spread.of(seconds).median * 1e3:,.1f}"


def _in_ms(seconds: list[float]) -> Spread:
    return Spread.of([value * 1e3 for value in seconds])


def _p99(ours: list[Result], theirs: list[Result]) -> Spread:
    return ratios([one.p99 for one in ours], [one.p99 for one in theirs])


def light(bench: Bench) -> Chapter:
    """A hundred records a second."""
    load = Load(rate=100, seconds=_SECONDS)
    found = bench.rounded({system.label: partial(bench.paced, system, load) for system in (LIMIT, KEYLANE)})
    ours = found[KEYLANE.label]
    return Chapter(
        title="Light load",
        text="100 records a second. Measured from the call of the producer to the first line of the handler.",
        head=TIMES,
        rows=times(found),
        targets=[
            Target(what="P50", found=_in_ms([one.p50 for one in ours]), bound=5, at_least=False, unit=" ms"),
            Target(what="P99", found=_in_ms([one.p99 for one in ours]), bound=25, at_least=False, unit=" ms"),
        ],
    )


def skew(bench: Bench) -> Chapter:
    """One key owns half of all records."""
    even, hot = Filling(count=bench.count), Filling(count=bench.count, hot=0.5)
    backlog = bench.rounded(
        {
            "backlog, even keys": _backlog(bench, even),
            "backlog, one key has half of it": _backlog(bench, hot),
        }
    )
    labels = ["1,000/s", "1,000/s, and one key 1,000/s", "500/s of 10 ms", "500/s of 10 ms, and one key 500/s of 10 ms"]
    loads = [Load(rate=1_000, seconds=_SECONDS), Load(rate=2_000, seconds=_SECONDS, hot=0.5)]
    slow = [Load(rate=500, seconds=_SECONDS), Load(rate=1_000, seconds=_SECONDS, hot=0.5)]
    runs = [partial(bench.paced, KEYLANE, load, aside=_HOT) for load in loads]
    runs += [partial(bench.paced, KEYLANE, load, aside=_HOT, wait=_SLOW) for load in slow]
    paced = bench.rounded(dict(zip(labels, runs, strict=True)))
    alone, beside, slow_alone, slow_beside = paced.values()
    rate = ratios(*([one.rate for one in found] for found in reversed(backlog.values())))
    return Chapter(
        title="Skew",
        text="The times are those of the other keys. In the last load the one key gets five times what it can do: its "
        "records pile up, in the end beyond what a worker holds of a partition.",
        head=TIMES,
        rows=[*times(paced), *([label, f"{found[0].rate:,.0f} records/s", ""] for label, found in backlog.items())],
        targets=[
            Target(what="P99 beside the one key to without it", found=_p99(beside, alone), bound=1.5, at_least=False),
            Target(
                what="the same where the one key cannot keep up",
                found=_p99(slow_beside, slow_alone),
                bound=1.5,
                at_least=False,
            ),
            Target(what="backlog with the one key to even keys, records/s", found=rate, bound=0.9),
        ],
    )


def _backlog(bench: Bench, filling: Filling) -> object:
    topic = bench.topic(filling)
    return lambda: bench.once(KEYLANE, topic, filling.partitions, count=filling.count).result


def failing(bench: Bench) -> Chapter:
    """One key of twenty fails into the tiers."""
    sound = System(label="no key fails", task={"aside": FAILING})
    broken = System(label="5 % of the keys fail", task={"aside": FAILING, "options": {"failing": True}})
    filling = Filling(count=bench.count)
    found = bench.alternate([sound, broken], filling, count=_others(filling))
    load = Load(rate=1_000, seconds=_SECONDS)
    runs = {system.label: partial(bench.paced, system, load, aside=FAILING) for system in (sound, broken)}
    paced = bench.rounded(runs)
    return Chapter(
        title="Failing keys",
        text="Every record of one key of twenty fails, each time it runs, and goes through the tiers of 2, 30 and "
        "300 s. Counted and timed are the other keys: first a backlog, then 1,000 records a second with P50/P99 of "
        + " and of ".join(f"{_ms([o.p50 for o in f])}/{_ms([o.p99 for o in f])} ms" for f in paced.values())
        + ".",
        head=RATES,
        rows=rates(found),
        targets=[
            Target(what="the others' records/s to without failures", found=compared(found, broken, sound), bound=0.9),
            Target(
                what="the others' P99 to without failures",
                found=_p99(paced[broken.label], paced[sound.label]),
                bound=2,
                at_least=False,
            ),
        ],
    )


def _others(filling: Filling) -> int:
    return Load(rate=filling.count, seconds=1).counted(frozenset(FAILING))

"""More processes, fewer partitions, and what switching things on costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.arithmetic import Spread, ratios
from tests.bench.bench import System
from tests.bench.fill import Filling
from tests.bench.page import RATES, Chapter, Target, rates
from tests.bench.scenarios.throughput import LIMIT, compared

if TYPE_CHECKING:
    from tests.bench.bench import Bench
    from tests.bench.result import Result

_MOST = 3  # processes


def processes(bench: Bench) -> Chapter:
    """One, two and three processes of one group."""
    systems = [System(label=f"keylane, {n} processes", processes=n) for n in range(2, _MOST + 1)]
    systems.insert(0, System(label="keylane, 1 process"))
    found = bench.alternate(systems, Filling(count=2 * bench.count))
    grown = [compared(found, system, systems[0]) for system in systems]
    rows = [
        [*row, f"{spread.median:.2f}", f"{_cores(found[system.label]):.1f}"]
        for row, spread, system in zip(rates(found), grown, systems, strict=True)
    ]
    return Chapter(
        title="More processes",
        text="The broker runs on the same cores, and needs one of them in part: *cores busy* counts keylane's own.",
        head=(*RATES, "to one process", "cores busy"),
        rows=rows,
        targets=[Target(what="two processes to one", found=grown[1], bound=1)],
    )


def _cores(found: list[Result]) -> float:
    return Spread.of([result.rate * result.cpu for result in found]).median


def partitions(bench: Bench) -> Chapter:
    """One partition and eight."""
    count = bench.count
    eight, one = Filling(count=count), Filling(count=count, partitions=1)
    ours, limit = System(label="keylane"), LIMIT
    runs = {}
    for name, filling in (("eight partitions", eight), ("one partition", one)):
        topic = bench.topic(filling)
        for system in (limit, ours):
            runs[f"{system.label}, {name}"] = _run_on(bench, system, topic, filling)
    found = bench.rounded(runs)
    few = [result.rate for result in found[f"{ours.label}, one partition"]]
    many = [result.rate for result in found[f"{ours.label}, eight partitions"]]
    return Chapter(
        title="One partition",
        text="The same records in one partition. Order is kept per key, so one partition is no bottleneck.",
        head=RATES,
        rows=rates(found),
        targets=[Target(what="one partition to eight", found=ratios(few, many), bound=0.9)],
    )


def _run_on(bench: Bench, system: System, topic: str, filling: Filling) -> object:
    return lambda: bench.once(system, topic, filling.partitions, count=filling.count).result


def tracking(bench: Bench) -> Chapter:
    """The statuses of every job on and off."""
    off = System(label="tracking off")
    on = System(label="tracking on", task={"options": {"tracking": True}})
    found = bench.alternate([off, on], Filling(count=bench.count // 2, headers=True))
    return Chapter(
        title="Tracking",
        text="With tracking, what became of every record is stored before its offset is committed.",
        head=RATES,
        rows=rates(found),
        targets=[Target(what="tracking on to off", found=compared(found, on, off), bound=0.6)],
    )


def metrics(bench: Bench) -> Chapter:
    """The metrics on and off."""
    on = System(label="metrics on")
    off = System(label="metrics off", task={"options": {"metrics": False}})
    found = bench.alternate([on, off], Filling(count=bench.count))
    cpu = ratios([result.cpu for result in found[off.label]], [result.cpu for result in found[on.label]])
    return Chapter(
        title="Metrics",
        text="The difference is smaller than what two runs differ by: the CPU time per record tells more.",
        head=RATES,
        rows=rates(found),
        targets=[
            Target(what="metrics on to off, records/s", found=compared(found, on, off), bound=0.99),
            Target(what="metrics on to off, records per CPU second", found=cpu, bound=0.99),
        ],
    )

"""How many records a second: no-op handlers, batches, handlers that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.arithmetic import ratios
from tests.bench.bench import System
from tests.bench.environment import version
from tests.bench.fill import Filling
from tests.bench.page import RATES, Chapter, Target, rates

if TYPE_CHECKING:
    from tests.bench.arithmetic import Spread
    from tests.bench.bench import Bench
    from tests.bench.result import Result

KEYLANE = System(label="keylane")
LIMIT = System(label="aiokafka `getmany`, no framework (the limit)", module="limit")
_WAIT = 0.01  # seconds a waiting handler sleeps


def faststream(kind: str, share: float = 1.0, **task: object) -> System:
    """FastStream in one of its ways."""
    return System(label=f"FastStream {version('faststream')}, {kind}", module="faststream", share=share, task=task)


def faust(kind: str, share: float = 1.0, **task: object) -> System:
    """Faust in one of its ways."""
    label = f"Faust {version('faust-streaming')}, {kind}"
    return System(label=label, module="faust_agent", share=share, task=task)


def compared(found: dict[str, list[Result]], ours: System, theirs: System) -> Spread:
    """The rates of ours to theirs."""
    return ratios([result.rate for result in found[ours.label]], [result.rate for result in found[theirs.label]])


def noop(bench: Bench) -> Chapter:
    """The cost of a framework: handlers that do nothing."""
    one, agent = faststream("one record a call", 0.3), faust("one event at a time", 0.25)
    found = bench.alternate([LIMIT, KEYLANE, one, agent], Filling(count=bench.count))
    return Chapter(
        title="No-op handlers, one process",
        text="Every system decodes each record and counts it; its cost is what is measured.",
        head=RATES,
        rows=rates(found),
        targets=[
            Target(what="keylane to the limit", found=compared(found, KEYLANE, LIMIT), bound=0.5),
            Target(what="keylane to FastStream, one record a call", found=compared(found, KEYLANE, one), bound=4),
            Target(what="keylane to Faust", found=compared(found, KEYLANE, agent), bound=5),
        ],
    )


def batch(bench: Bench) -> Chapter:
    """Handlers that take up to 100 records at once."""
    ours = System(label="keylane, batches of 100", task={"batch": True})
    theirs = faststream("batches", batch=True)
    found = bench.alternate([LIMIT, ours, theirs], Filling(count=bench.count))
    return Chapter(
        title="Batch handlers",
        text="keylane hands a batch handler up to 100 records of any keys; FastStream whatever one poll has found.",
        head=RATES,
        rows=rates(found),
        targets=[
            Target(what="keylane's batches to the limit", found=compared(found, ours, LIMIT), bound=0.7),
            Target(what="keylane's batches to FastStream's", found=compared(found, ours, theirs), bound=1),
        ],
    )


def waiting(bench: Bench) -> Chapter:
    """Handlers that wait 10 ms, as those do that call something."""
    hundred, thousand = _waiting_for(bench, 100), _waiting_for(bench, 1_000)
    return Chapter(
        title="Handlers that wait 10 ms",
        text=f"100 at once can do {100 / _WAIT:,.0f} records/s at most, 1,000 at once {1_000 / _WAIT:,.0f}. A key's "
        "records wait 15 and 5 ms by turns, so that records of a key that run side by side end in the wrong order.",
        head=RATES,
        rows=[*rates(hundred), *rates(thousand)],
        targets=[
            Target(what="keylane to hand-written tasks, 100 at once", found=_to_hand(hundred), bound=0.9),
            Target(what="keylane to hand-written tasks, 1,000 at once", found=_to_hand(thousand), bound=0.9),
        ],
    )


def _waiting_for(bench: Bench, concurrency: int) -> dict[str, list[Result]]:
    at_once = f"{concurrency:,} at once"
    systems = [
        System(label=f"hand-written per-key tasks, {at_once}", module="handwritten"),
        System(label=f"keylane, {at_once}"),
    ]
    if concurrency == 100:
        systems += [faststream("100 workers", 0.3), faust("100 at once", 0.5)]
    count = min(bench.count, 5 * int(concurrency * 100))  # about five seconds at most
    return bench.alternate(systems, Filling(count=count), wait=_WAIT, concurrency=concurrency)


def _to_hand(found: dict[str, list[Result]]) -> Spread:
    hand, ours, *_ = found.values()
    return ratios([result.rate for result in ours], [result.rate for result in hand])

"""``python -m tests.bench.memory``: the engine fed from memory, without a broker: CPU time per record of our own code.

It tells what a change to the hot path is worth on a machine that does other things as well; ``make bench`` tells
what users get.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import uvloop
from aiokafka.structs import ConsumerRecord

from schemas.codec import Codec
from streams.adapters.metrics import PrometheusMetrics
from streams.app.collector import settle
from streams.core.group import Limits
from streams.engine.calls import Calls
from streams.engine.engine import Engine, EngineOptions
from streams.engine.family import Family
from streams.engine.runner import Runner
from streams.engine.telemetry import Telemetry
from streams.ports import TopicPartition
from tests.bench.fill import Filling, draws, headers_of, partition_of, value
from tests.bench.meter import Meter
from tests.bench.records import decode, key
from tests.bench.systems.keylane import BATCH, CONTRACT, Registry, batch_handler_of, group_of, handler_of
from tests.bench.task import Task, Work

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from streams.ports import Message

    Logs = dict[TopicPartition, list[ConsumerRecord]]

_TOPIC = "memory"
_POLL = 256  # as the worker polls


def records_of(filling: Filling) -> Logs:
    """The records as aiokafka would hand them out."""
    found: Logs = {TopicPartition(_TOPIC, partition): [] for partition in range(filling.partitions)}
    for number, sequence in draws(filling):
        place = TopicPartition(_TOPIC, partition_of(number, filling.partitions))
        name, body = key(number), value(number, sequence)
        headers = tuple(headers_of(number, sequence)) if filling.headers else ()
        found[place].append(_record(place, len(found[place]), name, body, headers))
    return found


def _record(
    place: TopicPartition, offset: int, name: bytes, body: bytes, headers: tuple[tuple[str, bytes], ...]
) -> ConsumerRecord:
    return ConsumerRecord(*place, offset, 0, 0, name, body, None, len(name), len(body), headers)


class Memory:
    """The ports of consumer and writer over lists of records."""

    def __init__(self, records: Logs, family: Family) -> None:
        self._records = records
        self._positions = defaultdict[TopicPartition, int](int)
        topics = family.topics.values()
        self._owned = frozenset(TopicPartition(topic, place.partition) for topic in topics for place in records)
        self._records |= {place: [] for place in self._owned if place.topic != _TOPIC}

    async def start(self, revoked: Any, assigned: Any) -> None:
        """Own everything at once."""
        assigned()

    async def stop(self) -> None:
        """Nothing to leave."""

    def assignment(self) -> frozenset[TopicPartition]:
        """Everything."""
        return self._owned

    async def poll(
        self, wait: float, among: Collection[TopicPartition] | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """The next records, as the client shares them out: partition after partition up to a bound."""
        found, room = {}, _POLL
        for place in self._records:
            if among is None or place in among:
                begin = self._positions[place]
                if some := self._records[place][begin : begin + room]:
                    found[place] = some
                    self._positions[place] += len(some)
                    room -= len(some)
            if not room:
                break
        if not found:
            await asyncio.sleep(wait)
        return found

    async def write(self, target: TopicPartition, messages: Sequence[Message]) -> list[int]:
        """Store them all, as long as a broker takes."""
        await asyncio.sleep(0.002)
        log = self._records[target]
        first = len(log)
        for offset, message in enumerate(messages, first):
            log.append(_record(target, offset, message.key or b"", message.value or b"", tuple(message.headers)))
        return list(range(first, len(log)))

    def ends(self) -> dict[TopicPartition, int]:
        """Not told."""
        return {}

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Any]:
        """No commits."""
        return {}

    async def commit(self, offsets: Mapping[TopicPartition, Any]) -> None:
        """Take as long as a broker takes."""
        await asyncio.sleep(0.007)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Stand there already."""

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Not needed."""

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Not needed."""

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """The beginning."""
        return dict.fromkeys(self._owned, 0)

    async def read(self, start: Any, end: Any) -> Any:
        """No tier holds anything."""
        for batch in ():
            yield batch


class Store(Memory):
    """The reader's side."""

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:  # type: ignore[override]
        """Nothing in the tiers."""
        return dict.fromkeys(self._owned, 0)


def _engine(task: Task, work: Work, records: Logs) -> Engine:
    group = group_of(task, batch_handler_of(work) if task.batch else handler_of(task, work))
    family, metrics = Family(group), PrometheusMetrics()
    telemetry = Telemetry(group.name, metrics, Silent(), None, family.dlt)  # type: ignore[arg-type]
    codec = Codec(Registry(), [CONTRACT])
    memory = Memory({**records}, family)
    return Engine(
        family,
        group.tiers,
        Limits(
            concurrency=group.concurrency,
            batch=BATCH.size if task.batch else 1,
            linger=BATCH.linger if task.batch else 0.0,
        ),
        EngineOptions(),
        consumer=memory,
        reader=Store({**records}, family),
        writer=memory,
        runner=Runner(group, codec, None, Calls(1), telemetry, random.random, "bench"),  # type: ignore[arg-type]
        telemetry=telemetry,
    )


class Silent:
    """An outbox that nothing is put into."""

    async def flush(self) -> None:
        """Nothing to store."""


async def _run(task: Task, records: Logs) -> float:
    work = Work(task)
    engine = _engine(task, work, records)
    began = time.process_time()
    working = asyncio.create_task(engine.run())
    await work.done.wait()
    spent = time.process_time() - began
    engine.stop()
    await working
    found = work.meter.report()
    if found["count"] != task.count or found["disordered"]:
        raise SystemExit(f"{found['count']} of {task.count} handled, {found['disordered']} out of order")
    return spent / task.count * 1e6


def _bare(records: Logs, count: int) -> float:
    """The same records decoded and counted in a plain loop."""
    meter, began = Meter(count, lambda: None), time.process_time()
    for place in records.values():
        for record in place:
            fields = decode(record.value)
            meter.saw(fields["order_id"], fields["sequence"])
    return (time.process_time() - began) / count * 1e6


def _runs(options: argparse.Namespace) -> Iterator[tuple[float, float]]:
    filling = Filling(count=options.count, headers=options.headers, hot=options.hot, partitions=options.partitions)
    records = records_of(filling)
    failing = range(0, filling.keys, options.failing) if options.failing else ()
    task = Task(
        servers="",
        topic=_TOPIC,
        group=_TOPIC,
        count=sum(number not in failing for number, _ in draws(filling)),
        aside=tuple(failing),
        options={"failing": bool(failing)},
        result="",
        batch=options.batch,
        wait=options.wait,
        concurrency=options.concurrency,
    )
    settle()
    for _ in range(options.rounds):
        yield uvloop.run(_run(task, records)), _bare(records, options.count)
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(uvloop.run, _run(task, records))
        pstats.Stats(profile).sort_stats("tottime").print_stats(options.profile)


def main() -> None:
    """Measure, then profile if asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__)
    for name, default in (("count", 100_000), ("rounds", 5), ("concurrency", 100), ("profile", 0), ("partitions", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--failing", type=int, default=0, help="of so many keys one fails; the others are counted")
    for name in ("wait", "hot"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    for name in ("batch", "headers"):
        parser.add_argument(f"--{name}", action="store_true")
    found = list(_runs(parser.parse_args()))
    engine, bare = min(engine for engine, _ in found), min(bare for _, bare in found)
    print(f"CPU per record: {engine:.2f} us, of which decoding and counting in a plain loop takes {bare:.2f} us")
    print("ratios:", *(f"{engine / bare:.2f}" for engine, bare in found))


if __name__ == "__main__":
    main()

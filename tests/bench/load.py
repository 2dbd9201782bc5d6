"""Publishes at a steady rate from a process of its own, each record with the moment it was handed to the producer.

Invariant: the rate begins when the reader has shown that it reads, and the records before that, and those of the first
second after it, carry no moment: the start of the reader is not measured.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING

import uvloop
from aiokafka import AIOKafkaProducer

from tests.bench.fill import Filling, draws, partition_of, value
from tests.bench.records import key

if TYPE_CHECKING:
    from collections.abc import Collection
    from multiprocessing.synchronize import Event

_TICK = 0.001  # seconds
_HELLO = 20  # records before the reader is waited for
_PATIENCE = 120.0  # seconds it is waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many records a second for so long.

    Attributes:
        warm: Seconds in the beginning whose records are not timed.
    """

    rate: int
    seconds: float
    warm: float = 1.0
    hot: float = 0.0
    keys: int = 10_000
    partitions: int = 8

    @property
    def filling(self) -> Filling:
        """Its records."""
        return Filling(count=int(self.rate * self.seconds), hot=self.hot, keys=self.keys, partitions=self.partitions)

    def counted(self, aside: Collection[int]) -> int:
        """Its records without those of the keys set aside."""
        return sum(number not in aside for number, _ in draws(self.filling))


class Pacer:
    """The process that publishes a load."""

    def __init__(self, servers: str, topic: str, load: Load) -> None:
        context = get_context("spawn")
        self._go = context.Event()
        self._process = context.Process(target=_run, args=(servers, topic, load, self._go), daemon=True)

    def start(self) -> None:
        """Publish the first few records."""
        self._process.start()

    def go(self) -> None:
        """They were read: publish all others."""
        self._go.set()

    def stop(self) -> None:
        """End, whatever is left."""
        if self._process.pid is not None:
            self._process.terminate()
            self._process.join()


def _run(servers: str, topic: str, load: Load, go: Event) -> None:
    uvloop.run(_publish(servers, topic, load, go))


async def _publish(servers: str, topic: str, load: Load, go: Event) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, linger_ms=0) as producer:
        records = draws(load.filling)
        for number, sequence in islice(records, _HELLO):
            await _send(producer, topic, load, number, sequence, 0)
        await producer.flush()
        if not await asyncio.to_thread(go.wait, _PATIENCE):
            raise TimeoutError(f"nobody has read {topic} for {_PATIENCE:g} s")
        begin = time.monotonic()
        for index, (number, sequence) in enumerate(records):
            due = index / load.rate
            while (early := begin + due - time.monotonic()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(min(early, _TICK))
            await _send(producer, topic, load, number, sequence, int(time.time() * 1e6) if due >= load.warm else 0)
        await producer.flush()


async def _send(producer: AIOKafkaProducer, topic: str, load: Load, number: int, sequence: int, sent_us: int) -> None:
    place = partition_of(number, load.partitions)
    await producer.send(topic, value(number, sequence, sent_us), key(number), place)

"""Hand-written per-key tasks on aiokafka: in order per key, bounded, low-water marks committed every second.

What it leaves out is what a framework is for: retries, dead letters, rebalances, what is done above the low-water mark.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.records import decode
from tests.bench.task import main

if TYPE_CHECKING:
    from tests.bench.task import Task, Work

_COMMIT = 1.0  # seconds
_HELD = 16_000  # records, run or waiting for the one before them


class Marks:
    """What may be committed of each partition: the lowest offset that is not done."""

    def __init__(self) -> None:
        self._read: dict[int, deque[int]] = defaultdict(deque)
        self._done: dict[int, set[int]] = defaultdict(set)

    def read(self, partition: int, offset: int) -> None:
        """A record was read."""
        self._read[partition].append(offset)

    def done(self, partition: int, offset: int) -> None:
        """Its handler has ended."""
        self._done[partition].add(offset)

    def low(self) -> dict[int, int]:
        """The offset to commit, of the partitions that have got further since."""
        found = {}
        for partition, waiting in self._read.items():
            done = self._done[partition]
            while waiting and waiting[0] in done:
                found[partition] = waiting.popleft() + 1
                done.remove(found[partition] - 1)
        return found


class Keys:
    """One task per key that has work, at most ``concurrency`` handlers at once."""

    def __init__(self, work: Work, marks: Marks, concurrency: int) -> None:
        self.held = 0
        self._work = work
        self._marks = marks
        self._free = asyncio.Semaphore(concurrency)
        self._waiting: dict[bytes, deque[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, record: Any) -> None:
        """Run it after the records of its key that were taken before."""
        self.held += 1
        self._marks.read(record.partition, record.offset)
        waiting = self._waiting.get(record.key)
        if waiting is not None:
            waiting.append(record)
            return
        self._waiting[record.key] = deque([record])
        task = asyncio.create_task(self._run(record.key))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, key: bytes) -> None:
        waiting = self._waiting[key]
        async with self._free:
            while waiting:
                record = waiting.popleft()
                await self._work.one(decode(record.value))
                self._marks.done(record.partition, record.offset)
                self.held -= 1
        del self._waiting[key]


async def program(task: Task, work: Work) -> None:
    """Poll while there is room, and commit what is done."""
    async with AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.servers,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    ) as consumer:
        marks = Marks()
        keys = Keys(work, marks, task.concurrency)
        loop = asyncio.get_running_loop()
        due = loop.time() + _COMMIT
        while not work.done.is_set():
            if keys.held < _HELD:
                for records in (await consumer.getmany(timeout_ms=5, max_records=2_000)).values():
                    for record in records:
                        keys.take(record)
            else:
                await asyncio.sleep(0.001)
            if loop.time() > due:
                await _commit(consumer, task.topic, marks)
                due = loop.time() + _COMMIT
        await _commit(consumer, task.topic, marks)


async def _commit(consumer: AIOKafkaConsumer, topic: str, marks: Marks) -> None:
    offsets = {TopicPartition(topic, partition): offset for partition, offset in marks.low().items()}
    if offsets:
        await consumer.commit(offsets)


if __name__ == "__main__":
    main(program, uvloop.run)

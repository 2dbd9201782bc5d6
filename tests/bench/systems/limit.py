"""The limit: aiokafka's ``getmany`` and fastavro with a commit every second, and no framework at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvloop
from aiokafka import AIOKafkaConsumer

from tests.bench.records import decode
from tests.bench.task import main

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

    from tests.bench.task import Task, Work

_COMMIT = 1.0  # seconds


async def program(task: Task, work: Work) -> None:
    """Poll, decode, count, commit."""
    async with AIOKafkaConsumer(
        task.topic,
        bootstrap_servers=task.servers,
        group_id=task.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    ) as consumer:
        loop = asyncio.get_running_loop()
        due = loop.time() + _COMMIT
        while not work.done.is_set():
            for records in (await consumer.getmany(timeout_ms=100)).values():
                await _handle(work, records)
            if loop.time() > due:
                await consumer.commit()
                due = loop.time() + _COMMIT
        await consumer.commit()


async def _handle(work: Work, records: list[ConsumerRecord]) -> None:
    saw = work.meter.saw
    if work.latencies:
        for record in records:
            await work.one(decode(record.value))
        return
    for record in records:
        fields = decode(record.value)
        saw(fields["order_id"], fields["sequence"])


if __name__ == "__main__":
    main(program, uvloop.run)

"""FastStream's subscribers: one record a call, batches, or several workers; on uvloop, without pydantic or logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uvloop
from faststream.kafka import KafkaBroker

from tests.bench.records import decode
from tests.bench.task import main

if TYPE_CHECKING:
    from faststream.kafka.message import KafkaMessage

    from tests.bench.task import Task, Work

_MOST = 2_000  # records of a batch: more of them gains nothing, and a rate over few batches would be a rough one


async def _decode_one(message: KafkaMessage) -> dict[str, Any]:
    return decode(message.body)


async def _decode_batch(message: KafkaMessage) -> list[dict[str, Any]]:
    return [decode(body) for body in message.body]


async def program(task: Task, work: Work) -> None:
    """Subscribe with the fastest of its acknowledgements: offsets are committed by time."""
    broker = KafkaBroker(task.servers, apply_types=False, logger=None)
    options: dict[str, Any] = {
        "group_id": task.group,
        "auto_offset_reset": "earliest",
        "auto_commit_interval_ms": 1_000,
        "no_reply": True,
    }
    if task.batch:
        batches = {"batch": True, "batch_timeout_ms": 100, "max_records": _MOST}
        broker.subscriber(task.topic, decoder=_decode_batch, **batches, **options)(_many(work))
    else:
        workers = {"max_workers": task.concurrency} if task.wait else {}
        broker.subscriber(task.topic, decoder=_decode_one, **workers, **options)(_one(work))
    async with broker:
        await broker.start()
        await work.done.wait()


def _one(work: Work) -> Any:
    async def handle(fields: dict[str, Any]) -> None:
        await work.one(fields)

    return handle


def _many(work: Work) -> Any:
    async def handle(batch: list[dict[str, Any]]) -> None:
        work.many(batch)

    return handle


if __name__ == "__main__":
    main(program, uvloop.run)

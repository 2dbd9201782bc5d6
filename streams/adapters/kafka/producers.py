"""Opens and closes aiokafka's idempotent producers so that neither an outage nor a cancellation leaves one behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

if TYPE_CHECKING:
    from collections.abc import Mapping


async def connected(options: Mapping[str, Any], **more: Any) -> AIOKafkaProducer:
    """A started producer: lz4 and, unless told otherwise, idempotent with ``acks=all``.

    Args:
        options: As from ``client_options``.
        more: Further arguments of ``AIOKafkaProducer``.

    Raises:
        KafkaError: No broker can be reached.
    """
    promises = {"acks": "all", "enable_idempotence": True, **more}
    producer = AIOKafkaProducer(**options, compression_type="lz4", **promises)
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer


async def close(producer: AIOKafkaProducer, patience: float) -> None:
    """Write what is queued, for at most ``patience`` seconds, and disconnect; goes on when the caller is cancelled."""
    await asyncio.shield(asyncio.create_task(_close(producer, patience)))


async def _close(producer: AIOKafkaProducer, patience: float) -> None:
    ending = asyncio.create_task(producer.stop())
    _, late = await asyncio.wait([ending], timeout=patience)
    if late:
        # stop() waits for every batch, and an idempotent producer never gives one up: there is no public way to do so.
        # The sender ends first, since it still puts back what it has under way.
        await producer._sender.close()  # noqa: SLF001 - see above
        producer._message_accumulator.fail_all(KafkaTimeoutError())  # noqa: SLF001 - see above
    await ending

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
        waiting = producer._message_accumulator  # noqa: SLF001 - see above
        for batches in waiting._batches.values():  # noqa: SLF001 - see above
            # A batch takes itself out of these when it fails; one that was put back is not among them any more.
            waiting._pending_batches.update(batches)  # noqa: SLF001 - see above
        waiting.fail_all(KafkaTimeoutError())
    await ending

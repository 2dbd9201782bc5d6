"""Closes aiokafka's consumers, whatever state their background tasks are in.

Invariant: when :func:`close` returns, the consumer's tasks and connections are gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

log = structlog.get_logger(__name__)


async def close(consumer: AIOKafkaConsumer) -> None:
    """Leave the group, if it is in one, and disconnect; goes on when the caller is cancelled."""
    await asyncio.shield(asyncio.create_task(_close(consumer)))


async def _close(consumer: AIOKafkaConsumer) -> None:
    ending = asyncio.create_task(consumer.stop())
    await asyncio.wait([ending])
    # A background task that had died raises its error here, one that was cancelled its cancellation, as if it were the
    # caller's: an engine that took it for its own would end without a word. Both come before the connections are
    # closed, for which there is no public way, as there is none to call stop() twice.
    error = asyncio.CancelledError() if ending.cancelled() else ending.exception()
    if error is None:
        return
    log.warning("a consumer had broken down before it was closed", reason=repr(error))
    await consumer._client.close()  # noqa: SLF001 - see above
    pending = set() if consumer._fetcher is None else set(consumer._fetcher._pending_tasks)  # noqa: SLF001 - see above
    for fetch in pending:
        fetch.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if not isinstance(error, KafkaError | asyncio.CancelledError):
        raise error

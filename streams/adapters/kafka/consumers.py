"""Closes aiokafka's consumers, whatever state their background tasks are in.

Invariant: when :func:`close` returns, the consumer's tasks and connections are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

log = structlog.get_logger(__name__)


async def close(consumer: AIOKafkaConsumer) -> None:
    """Leave the group, if it is in one, and disconnect."""
    try:
        await consumer.stop()
    except KafkaError as error:
        # A background task that had died raises its error here, before the connections are closed.
        log.warning("a consumer had broken down before it was closed", reason=repr(error))
        await consumer._client.close()  # noqa: SLF001 - stop() is not to be called twice

"""Writes events and jobs to the broker for clients without Kafka: encoded by contract, acknowledged, bounded.

Invariant: a position is returned only after ``acks=all``; at most ``limit`` records are unacknowledged at any time.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schemas.errors import RegistryUnavailableError
from streams.door import ProblemError
from streams.event import Attributes, record_key, to_headers
from streams.job import TransientError
from streams.ports import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from schemas.codec import Codec
    from schemas.contract import Contract
    from streams.metrics import Metrics
    from streams.ports import Position, Publisher

PATIENCE = 1.8  # seconds until a missing acknowledgement is a 503
LIMIT = 5_000  # records
_LAST = 253_402_300_799_999  # the last millisecond of the year 9999
SOURCE = "/keylane/gateway"


class Intake:
    """Takes payloads and gives positions.

    Args:
        limit: Unacknowledged records; what would go above is refused at once.
        patience: Seconds a record may take to be encoded, and to be acknowledged.
    """

    def __init__(
        self,
        publisher: Publisher,
        codec: Codec,
        metrics: Metrics,
        *,
        limit: int = LIMIT,
        patience: float = PATIENCE,
    ) -> None:
        self._publisher = publisher
        self._codec = codec
        self._metrics = metrics
        self._limit = limit
        self._patience = patience
        self._unacknowledged = 0

    async def message(
        self, contract: Contract, payload: BaseModel, attributes: Attributes, *, topic: str, key: bytes
    ) -> Message:
        """The record of a payload.

        Raises:
            ProblemError: The payload cannot be encoded.
            TransientError: The registry is away.
        """
        try:
            async with asyncio.timeout(self._patience):
                value = await self._codec.encode(contract, payload)
        except ValueError as error:
            raise ProblemError("too-large", f"The payload cannot be encoded: {error}.") from None
        except (TimeoutError, RegistryUnavailableError) as error:
            raise TransientError(f"the schema registry does not answer: {error}") from error
        return Message(topic=topic, key=key, value=value, headers=to_headers(attributes))

    async def publish(self, kind: str, *messages: Message) -> list[Position | BaseException]:
        """Write records side by side; for each its position, or why there is none.

        Raises:
            ProblemError: Too many records are unacknowledged; nothing was written.
        """
        started = time.perf_counter()
        with self._counted(len(messages)):
            found = await asyncio.gather(*map(self._acknowledged, messages), return_exceptions=True)
        self._metrics.observe("keylane_enqueue_duration_seconds", time.perf_counter() - started, kind=kind)
        return found

    async def _acknowledged(self, message: Message) -> Position:
        try:
            async with asyncio.timeout(self._patience):
                return await self._publisher.publish(message)
        except TimeoutError as error:
            raise TransientError(f"{message.topic}: no acknowledgement within {self._patience} s") from error

    @contextmanager
    def _counted(self, count: int) -> Iterator[None]:
        if self._unacknowledged + count > self._limit:
            raise ProblemError("overloaded", "Too many records wait for the broker; try again soon.", retry_after=1)
        self._unacknowledged += count
        self._metrics.set("keylane_unacknowledged", self._unacknowledged)
        try:
            yield
        finally:
            self._unacknowledged -= count
            self._metrics.set("keylane_unacknowledged", self._unacknowledged)


def now() -> str:
    """The time as RFC 3339 text with milliseconds."""
    return rfc3339(time.time_ns() // 1_000_000)


def rfc3339(milliseconds: int) -> str:
    """A time since the epoch as RFC 3339 text; what lies outside the years 1970 to 9999 becomes their limit."""
    milliseconds = min(max(milliseconds, 0), _LAST)
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def checked_key(tenant: str, entity: Any) -> bytes:
    """The record key.

    Raises:
        ProblemError: The parts do not make one.
    """
    try:
        return record_key(tenant, entity)
    except ValueError as error:
        raise ProblemError("invalid-request", f"No record key can be made: {error}.") from None

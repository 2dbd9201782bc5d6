"""Writes events and jobs to the broker for clients without Kafka: encoded by contract, acknowledged, bounded.

Invariant: a position is returned only after ``acks=all`` (of events: as their producer was told); at most ``limit``
records and ``limit_bytes`` bytes are unacknowledged at any time. Of one call's records those of a key are stored in
their order, and none is handed over behind one of its key that was not.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schemas.errors import RegistryUnavailableError
from streams.core.headers import REQUEST
from streams.door import ProblemError
from streams.event import Attributes, record_key, to_headers
from streams.job import TransientError
from streams.ports import Message, RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import BaseModel

    from schemas.codec import Codec
    from schemas.contract import Contract
    from streams.metrics import Metrics
    from streams.ports import Position, Publisher

PATIENCE = 1.8  # seconds until a missing acknowledgement is a 503
LIMIT = 5_000  # records
LIMIT_BYTES = 67_108_864
_RECORD = 200  # bytes a record weighs beside its key and value
_LAST = 253_402_300_799_999  # the last millisecond of the year 9999
SOURCE = "/keylane/gateway"


class Intake:
    """Takes payloads and gives positions.

    Args:
        events: Writes events; None: as all else is written.
        limit: Unacknowledged records; what would go above is refused at once.
        limit_bytes: The same for their bytes.
        patience: Seconds a request's records may take to be encoded, and to be acknowledged.
    """

    def __init__(
        self,
        publisher: Publisher,
        codec: Codec,
        metrics: Metrics,
        *,
        events: Publisher | None = None,
        limit: int = LIMIT,
        limit_bytes: int = LIMIT_BYTES,
        patience: float = PATIENCE,
    ) -> None:
        self._publishers = {"job": publisher, "event": events or publisher}
        self._codec = codec
        self._metrics = metrics
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._patience = patience
        self._unacknowledged = 0
        self._bytes = 0

    async def message(
        self,
        contract: Contract,
        payload: BaseModel,
        attributes: Attributes,
        *,
        topic: str,
        key: bytes,
        request: str | None = None,
    ) -> Message:
        """The record of a payload; ``request`` makes it known as the same record when it is sent again.

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
        headers = to_headers(attributes)
        if request is not None:
            headers.append((REQUEST, request.encode()))
        return Message(topic=topic, key=key, value=value, headers=headers)

    async def publish(self, kind: str, *messages: Message) -> list[Position | BaseException]:
        """Write records in their order; for each its position, or why there is none.

        Raises:
            ProblemError: Too much is unacknowledged; nothing was written.
        """
        started = time.perf_counter()
        with self._counted(messages):
            found = await self._written(self._publishers[kind], messages)
        self._metrics.observe("keylane_enqueue_duration_seconds", time.perf_counter() - started, kind=kind)
        return found

    async def _written(self, publisher: Publisher, messages: Sequence[Message]) -> list[Position | BaseException]:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        sent = await self._handed_over(publisher, messages)
        waiting = [each for each in sent if isinstance(each, asyncio.Future)]
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, until - loop.time()))
        return [self._end(each) if isinstance(each, asyncio.Future) else each for each in sent]

    async def _handed_over(
        self, publisher: Publisher, messages: Sequence[Message]
    ) -> list[asyncio.Future[Position] | BaseException]:
        sent: list[asyncio.Future[Position] | BaseException] = []
        stopped: set[tuple[str, bytes | None]] = set()
        try:
            async with asyncio.timeout(self._patience):
                for message in messages:
                    lane = message.topic, message.key
                    sent.append(behind() if lane in stopped else await _sent(publisher, message))
                    if isinstance(sent[-1], BaseException):
                        stopped.add(lane)
        except TimeoutError:
            sent += [self._late() for _ in messages[len(sent) :]]
        return sent

    def _end(self, sent: asyncio.Future[Position]) -> Position | BaseException:
        if not sent.done():
            sent.cancel()
            return self._late()
        return sent.exception() or sent.result()

    def _late(self) -> TransientError:
        return TransientError(f"no acknowledgement within {self._patience} s")

    @contextmanager
    def _counted(self, messages: Sequence[Message]) -> Iterator[None]:
        count = len(messages)
        size = sum(len(each.value or b"") + len(each.key or b"") + _RECORD for each in messages)
        if self._unacknowledged + count > self._limit or self._bytes + size > self._limit_bytes:
            raise ProblemError("overloaded", "Too many records wait for the broker; try again soon.", retry_after=1)
        self._count(count, size)
        try:
            yield
        finally:
            self._count(-count, -size)

    def _count(self, count: int, size: int) -> None:
        self._unacknowledged += count
        self._bytes += size
        self._metrics.set("keylane_unacknowledged", self._unacknowledged)
        self._metrics.set("keylane_unacknowledged_bytes", self._bytes)


async def _sent(publisher: Publisher, message: Message) -> asyncio.Future[Position] | BaseException:
    try:
        return asyncio.ensure_future(await publisher.send(message))
    except (TransientError, RecordRefusedError) as error:
        return error


def behind() -> ProblemError:
    """What becomes of a record behind a refused one of its key."""
    return ProblemError("behind-a-refused-one", "An earlier record of the same key was not taken: so is this one not.")


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

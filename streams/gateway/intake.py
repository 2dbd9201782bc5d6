"""Writes events and jobs to the broker for clients without Kafka: encoded by contract, acknowledged, bounded.

Invariant: a position is returned only after ``acks=all`` (of events: as their producer was told); at most ``limit``
records and ``limit_bytes`` bytes are unacknowledged at any time. Of one call's records those of a key are stored in
their order, and none is handed over behind one of its key that was not.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from schemas.errors import RegistryUnavailableError
from streams.core.headers import REQUEST
from streams.door import ProblemError
from streams.event import Attributes, record_key, to_headers
from streams.job import TransientError
from streams.ports import Message, RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from pydantic import BaseModel

    from schemas.codec import Codec
    from schemas.contract import Contract
    from streams.metrics import Metrics
    from streams.ports import Position, Publisher

PATIENCE = 1.8  # seconds until a missing acknowledgement is a 503
LIMIT = 5_000  # records
LIMIT_BYTES = 67_108_864
_FEW = 2  # records; more are handed over as batches
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
        self._known: set[str] = set()  # contracts whose records are made without waiting
        metrics.watch("keylane_unacknowledged", lambda: self._unacknowledged)
        metrics.watch("keylane_unacknowledged_bytes", lambda: self._bytes)

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
        value = await self.encoded(contract, payload.model_dump())
        headers = to_headers(attributes)
        if request is not None:
            headers.append((REQUEST, request.encode()))
        return Message(topic=topic, key=key, value=value, headers=headers)

    async def encoded(self, contract: Contract, fields: Mapping[str, Any]) -> bytes:
        """The value of a record; raises as ``message`` does."""
        try:
            if contract.name in self._known:
                return await self._codec.encode_fields(contract, fields)
            async with asyncio.timeout(self._patience):
                value = await self._codec.encode_fields(contract, fields)
        except ValueError as error:
            raise ProblemError("too-large", f"The payload cannot be encoded: {error}.") from None
        except (TimeoutError, RegistryUnavailableError) as error:
            raise TransientError(f"the schema registry does not answer: {error}") from error
        self._known.add(contract.name)
        return value

    async def publish(self, kind: str, *messages: Message) -> list[Position | BaseException]:
        """Write records in their order; for each its position, or why there is none.

        Raises:
            ProblemError: Too much is unacknowledged; nothing was written.
        """
        started = time.perf_counter()
        count, size = len(messages), _size(messages)
        if self._unacknowledged + count > self._limit or self._bytes + size > self._limit_bytes:
            raise ProblemError("overloaded", "Too many records wait for the broker; try again soon.", retry_after=1)
        self._count(count, size)
        try:
            found = await self._written(self._publishers[kind], messages)
        finally:
            self._count(-count, -size)
        self._metrics.observe("keylane_enqueue_duration_seconds", time.perf_counter() - started, kind=kind)
        return found

    async def _written(self, publisher: Publisher, messages: Sequence[Message]) -> list[Position | BaseException]:
        sent: list[Awaitable[Position] | BaseException] = []
        ends: list[Position | BaseException] = []
        try:
            async with asyncio.timeout(self._patience):
                if len(messages) > _FEW:
                    sent += await publisher.send_many(messages)
                else:
                    await self._hand_over(publisher, messages, sent)
                for each in sent:
                    end = each if isinstance(each, BaseException) else await _end(each)
                    ends.append(end)
        except TransientError as error:
            return [error] * len(messages)
        except TimeoutError:
            ends += [self._late(each) for each in sent[len(ends) :]]
            ends += [self._late(None) for _ in messages[len(ends) :]]
        return ends

    @staticmethod
    async def _hand_over(
        publisher: Publisher, messages: Sequence[Message], sent: list[Awaitable[Position] | BaseException]
    ) -> None:
        stopped: set[tuple[str, bytes | None]] = set()
        for message in messages:
            if stopped and (message.topic, message.key) in stopped:
                sent.append(behind())
                continue
            try:
                sent.append(await publisher.send(message))
            except (TransientError, RecordRefusedError) as error:
                sent.append(error)
                stopped.add((message.topic, message.key))

    def _late(self, sent: Awaitable[Position] | BaseException | None) -> Position | BaseException:
        """What became of a record whose time is up."""
        if isinstance(sent, BaseException):
            return sent
        if isinstance(sent, asyncio.Future):
            if sent.done() and not sent.cancelled():
                return sent.exception() or sent.result()
            sent.cancel()
        return TransientError(f"no acknowledgement within {self._patience} s")

    def _count(self, count: int, size: int) -> None:
        self._unacknowledged += count
        self._bytes += size


def _size(messages: Sequence[Message]) -> int:
    return sum(len(each.value or b"") + len(each.key or b"") + _RECORD for each in messages)


async def _end(sent: Awaitable[Position]) -> Position | BaseException:
    try:
        return await sent
    except Exception as error:  # noqa: BLE001 - it is the end of this record alone
        return error


def behind() -> ProblemError:
    """What becomes of a record behind a refused one of its key."""
    return ProblemError("behind-a-refused-one", "An earlier record of the same key was not taken: so is this one not.")


def now() -> str:
    """The time as RFC 3339 text with milliseconds."""
    return rfc3339(time.time_ns() // 1_000_000)


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def rfc3339(milliseconds: int) -> str:
    """A time since the epoch as RFC 3339 text; what lies outside the years 1970 to 9999 becomes their limit."""
    milliseconds = min(max(milliseconds, 0), _LAST)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


def checked_key(tenant: str, entity: Any) -> bytes:
    """The record key.

    Raises:
        ProblemError: The parts do not make one.
    """
    try:
        return record_key(tenant, entity)
    except ValueError as error:
        raise ProblemError("invalid-request", f"No record key can be made: {error}.") from None

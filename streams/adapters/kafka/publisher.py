"""Writes single records through aiokafka's idempotent producer (``acks=all``), in order per partition.

    publisher = KafkaPublisher(client_options(settings))
    await publisher.start()
    position = await publisher.publish(message)
    pending = await publisher.send(message)         # queued in order; position = await pending
    pending = await publisher.send_many(messages)   # the same for many, as whole batches
    await publisher.publish_all(messages)           # in order per partition, as whole batches
    await publisher.stop()

Invariant: an acknowledged record is stored; a producer that gave up a batch is never used again, because its sequence
numbers have a gap which the broker refuses for ever (aiokafka #1017).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from streams.adapters.kafka.bulk import batches, send_all, targets
from streams.adapters.kafka.overdue import Overdue
from streams.adapters.kafka.producers import close, connected
from streams.job import TransientError
from streams.ports import Position, RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from aiokafka import AIOKafkaProducer
    from aiokafka.structs import RecordMetadata

    from streams.ports import Message

_LARGEST = 4_194_304  # bytes; the topic's max.message.bytes decides below that
_BATCH = 65_536  # bytes; a topic with a smaller max.message.bytes would refuse whole batches
_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError)
_HARMLESS = (MessageSizeTooLargeError, UnknownTopicOrPartitionError, KafkaTimeoutError, TimeoutError)


class KafkaPublisher:
    """The ``Publisher`` port.

    Args:
        options: As from ``client_options``.
        timeout: Seconds until a missing acknowledgement becomes a ``TransientError``.
        acks: 1: the leader alone acknowledges, and what it alone has is lost with it; a record may be stored twice.
    """

    def __init__(self, options: Mapping[str, Any], *, timeout: float = 15.0, acks: Literal["all", 1] = "all") -> None:
        self._options = options
        self._timeout = timeout
        self._acks = acks
        self._producer: AIOKafkaProducer | None = None
        self._stuck = False
        self._renewal = asyncio.Lock()
        self._overdue = Overdue(timeout)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect.

        Raises:
            TransientError: No broker can be reached.
        """
        try:
            await self._usable()
        except KafkaError as error:
            raise TransientError(f"Kafka cannot be reached: {error}") from error

    async def stop(self) -> None:
        """Write what is queued, for at most the time-out, and disconnect."""
        async with self._renewal:
            await self._discard()

    async def publish(self, message: Message) -> Position:
        """Write and wait for the acknowledgement.

        Raises:
            TransientError: The broker did not acknowledge in time; the record may or may not be stored.
            RecordRefusedError: The broker will never take this record.
        """
        return await (await self.send(message))

    async def send(self, message: Message) -> Awaitable[Position]:
        """Queue the record behind those sent before; await the result for the acknowledgement.

        Raises:
            TransientError: The record could not be queued.
            RecordRefusedError: The broker will never take this record.
        """
        try:
            producer = self._ready(message.topic)
            if producer is None:
                producer = await self._made_ready(message.topic)
            _check(producer, message)
            # It waits for room no longer than request_timeout_ms.
            stored = await producer.send(
                message.topic, message.value, message.key, message.partition, headers=list(message.headers)
            )
        except (KafkaError, TimeoutError) as error:
            self._stuck = self._stuck or not isinstance(error, _HARMLESS)
            raise _explained(error, message) from error
        return self._position(producer, stored, message)

    async def send_many(self, messages: Sequence[Message]) -> Sequence[Awaitable[Position]]:
        """Queue records in order per partition, as whole batches; await each result for its acknowledgement.

        Raises:
            TransientError: They could not be queued.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                producer = await self._usable()
                found = await targets(producer, messages)
        except (KafkaError, TimeoutError) as error:
            raise _explained(error, messages[0]) from error
        ends: list[asyncio.Future[Position]] = [loop.create_future() for _ in messages]
        for target, numbers in found.items():
            some = [messages[number] for number in numbers]
            task = asyncio.create_task(self._send_each(producer, target, some, [ends[number] for number in numbers]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return ends

    async def _send_each(
        self,
        producer: AIOKafkaProducer,
        target: tuple[str, int],
        messages: Sequence[Message],
        ends: Sequence[asyncio.Future[Position]],
    ) -> None:
        numbers = range(len(messages))
        try:
            async with asyncio.timeout(self._timeout):
                async for numbers, stored in batches(producer, target, messages):
                    offset = (await stored).offset  # before the next batch: nothing is stored behind a gap
                    for place, number in enumerate(numbers):
                        if not ends[number].done():
                            ends[number].set_result(Position(*target, offset + place))
        except (KafkaError, TimeoutError) as error:
            self._stuck = self._stuck or producer is self._producer
            for number in numbers:
                _fail(ends[number], error, messages[number])
            for end, message in zip(ends, messages, strict=True):
                _fail(end, KafkaTimeoutError("it was not sent, as what is before it was not stored"), message)

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """Write in order per partition and wait for all acknowledgements: a batch costs what a record costs alone.

        Raises:
            TransientError: Not all were acknowledged in time; each of them may or may not be stored.
            RecordRefusedError: The broker will never take one of them; the others may or may not be stored.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await send_all(await self._usable(), messages)
        except (KafkaError, TimeoutError) as error:
            self._stuck = True
            raise _explained(error, messages[0]) from error

    def _position(
        self, producer: AIOKafkaProducer, stored: asyncio.Future[RecordMetadata], message: Message
    ) -> asyncio.Future[Position]:
        # Callbacks rather than a task: there is one of these for every record.
        position: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._overdue.add(position, lambda: _explained(TimeoutError(), message))

        def settle(stored: asyncio.Future[RecordMetadata]) -> None:
            error = stored.exception()
            if error is not None:
                self._stuck = self._stuck or producer is self._producer
                _fail(position, error, message)
            elif not position.done():
                found = stored.result()
                position.set_result(Position(found.topic, found.partition, found.offset))

        stored.add_done_callback(settle)
        return position

    def _ready(self, topic: str) -> AIOKafkaProducer | None:
        """The producer, where nothing has to be waited for; a timer costs as much as the rest of handing over."""
        if self._producer is None or self._stuck or self._producer.client.cluster.partitions_for_topic(topic) is None:
            return None
        return self._producer

    async def _made_ready(self, topic: str) -> AIOKafkaProducer:
        async with asyncio.timeout(self._timeout):
            producer = await self._usable()
            await producer.partitions_for(topic)
            return producer

    async def _usable(self) -> AIOKafkaProducer:
        if self._producer is not None and not self._stuck:
            return self._producer
        async with self._renewal:
            if self._producer is None or self._stuck:
                await self._discard()
                self._producer = await self._connected()
            return self._producer

    async def _connected(self) -> AIOKafkaProducer:
        return await connected(
            self._options,
            acks=self._acks,
            enable_idempotence=self._acks == "all",
            linger_ms=0,  # what comes while a request is under way goes with the next one
            max_batch_size=_BATCH,
            max_request_size=_LARGEST,
            request_timeout_ms=int(self._timeout * 500),  # twice within the time-out
        )

    async def _discard(self) -> None:
        producer, self._producer, self._stuck = self._producer, None, False
        if producer is not None:
            # To its end, also when the caller's patience ends: nothing may overtake what the old one still writes.
            await close(producer, self._timeout)


def _check(producer: AIOKafkaProducer, message: Message) -> None:
    if message.key is None and message.value is None:
        raise RecordRefusedError(f"{message.topic}: a record needs a key or a value")
    if message.partition is None:
        return
    if message.partition not in (producer.client.cluster.partitions_for_topic(message.topic) or ()):
        raise RecordRefusedError(f"{message.topic} has no partition {message.partition}")


def _fail(position: asyncio.Future[Position], error: BaseException, message: Message) -> None:
    if not position.done():
        position.set_exception(_explained(error, message))


def _explained(error: BaseException, message: Message) -> Exception:
    if isinstance(error, _REFUSALS):
        return RecordRefusedError(f"{message.topic}: the record is too large for the topic")
    if isinstance(error, TimeoutError):
        return TransientError(f"{message.topic}: Kafka did not acknowledge in time")
    return TransientError(f"{message.topic}: {type(error).__name__}: {error}")

"""Follows partitions to whatever comes, without a consumer group.

    async for records in KafkaFollower(client_options(settings)).follow({place: offset}): ...

Invariant: the client never moves a position by itself; a place the log does not have is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.adapters.kafka import consumers
from streams.job import TransientError
from streams.ports import OutOfRangeError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streams.ports import Record

_POLL = 1_000  # milliseconds
_MOST = 500  # records of one batch
_REQUEST = 10_000  # milliseconds until a request without an answer is given up


class KafkaFollower:
    """The ``LogFollower`` port; each call has its own connection.

    Args:
        options: As from ``client_options``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    async def follow(self, start: Mapping[TopicPartition, int]) -> AsyncIterator[Sequence[Record]]:
        """Yield batches from these places on; an empty one where nothing came for a second.

        Raises:
            OutOfRangeError: The log does not have a place (any more).
            TransientError: A broker is away.
        """
        consumer = AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            request_timeout_ms=_REQUEST,
        )
        try:
            await consumer.start()
            consumer.assign([aiokafka.TopicPartition(*place) for place in start])
            for place, offset in start.items():
                consumer.seek(aiokafka.TopicPartition(*place), offset)
            while True:
                found = await consumer.getmany(timeout_ms=_POLL, max_records=_MOST)
                yield [record for records in found.values() for record in records]
        except OffsetOutOfRangeError as error:
            (lost,) = error.args
            raise OutOfRangeError({TopicPartition(*place): at for place, at in lost.items()}) from error
        except KafkaError as error:
            raise TransientError(f"Kafka cannot be followed: {type(error).__name__}: {error}") from error
        finally:
            await consumers.close(consumer)

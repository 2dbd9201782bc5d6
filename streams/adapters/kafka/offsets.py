"""How far consumer groups have come, as the broker knows it.

Invariant: asking joins no group and changes nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from streams.job import TransientError
from streams.ports import Committed, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.structs import OffsetAndMetadata

_PATIENCE = 10_000  # milliseconds until a request without an answer is given up
_TRIES, _AGAIN = 20, 0.2  # seconds between tries


class KafkaGroupOffsets:
    """The ``GroupOffsets`` port; each call has its own connection.

    Args:
        options: As from ``client_options``.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """The committed offset of every partition the group has committed, the next one to be read.

        Raises:
            TransientError: No broker answered.
        """
        return {place: at.offset for place, at in (await _commits(self._options, group, None)).items()}


class KafkaCommits:
    """The ``Commits`` port of one group; each call has its own connection.

    Args:
        options: As from ``client_options``.
    """

    def __init__(self, options: Mapping[str, Any], group: str) -> None:
        self._options = options
        self._group = group

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """What the group committed; partitions without a commit are left out.

        Raises:
            TransientError: No broker answered.
        """
        return await _commits(self._options, self._group, [aiokafka.TopicPartition(*place) for place in partitions])


async def _commits(
    options: Mapping[str, Any], group: str, partitions: list[aiokafka.TopicPartition] | None
) -> dict[TopicPartition, Committed]:
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=_PATIENCE)
    try:
        await admin.start()
        found = await _listed(admin, group, partitions)
    except KafkaError as error:
        raise TransientError(f"Kafka does not tell how far {group} is: {type(error).__name__}: {error}") from error
    finally:
        await admin.close()
    return {
        TopicPartition(tp.topic, tp.partition): Committed(at.offset, at.metadata)
        for tp, at in found.items()
        if at.offset >= 0
    }


async def _listed(
    admin: AIOKafkaAdminClient, group: str, partitions: list[aiokafka.TopicPartition] | None
) -> dict[aiokafka.TopicPartition, OffsetAndMetadata]:
    """What is committed; a cluster without any group makes its topic for offsets when it is asked first."""
    for _ in range(_TRIES):
        try:
            return await admin.list_consumer_group_offsets(group, partitions=partitions)  # type: ignore[no-any-return]
        except GroupCoordinatorNotAvailableError:
            await asyncio.sleep(_AGAIN)
    return await admin.list_consumer_group_offsets(group, partitions=partitions)  # type: ignore[no-any-return]

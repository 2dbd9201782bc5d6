"""How far consumer groups have come, as the broker knows it.

Invariant: asking joins no group and changes nothing; a coordinator that does not know the group yet does not count as
one that knows of no commits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest

from streams.job import TransientError
from streams.ports import Committed, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.structs import OffsetAndMetadata

_PATIENCE = 10_000  # milliseconds until a request without an answer is given up
_TRIES, _AGAIN = 20, 0.2  # seconds between tries
# A cluster without any group makes its topic for offsets when it is asked first; a new coordinator has to read it.
_NOT_YET = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)


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


class _Admin(AIOKafkaAdminClient):  # type: ignore[misc]  # aiokafka is untyped
    """Heeds the error of a whole group, too, where aiokafka reads that the group has committed nothing."""

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        answer = await super()._send_request(request, node_id)
        if isinstance(request, OffsetFetchRequest) and answer.error_code:
            raise for_code(answer.error_code)(f"coordinator {node_id}")
        return answer


async def _commits(
    options: Mapping[str, Any], group: str, partitions: list[aiokafka.TopicPartition] | None
) -> dict[TopicPartition, Committed]:
    admin = _Admin(**options, request_timeout_ms=_PATIENCE)
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
    """What is committed, once there is a coordinator that knows."""
    for _ in range(_TRIES):
        try:
            return await admin.list_consumer_group_offsets(group, partitions=partitions)  # type: ignore[no-any-return]
        except _NOT_YET:
            await asyncio.sleep(_AGAIN)
    return await admin.list_consumer_group_offsets(group, partitions=partitions)  # type: ignore[no-any-return]

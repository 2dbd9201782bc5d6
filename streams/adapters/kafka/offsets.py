"""How far consumer groups have come, as the broker knows it.

Invariant: asking joins no group and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.job import TransientError
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        admin = AIOKafkaAdminClient(**self._options)
        try:
            await admin.start()
            found = await admin.list_consumer_group_offsets(group)
        except KafkaError as error:
            raise TransientError(f"Kafka does not tell how far {group} is: {type(error).__name__}: {error}") from error
        finally:
            await admin.close()
        return {TopicPartition(tp.topic, tp.partition): at.offset for tp, at in found.items() if at.offset >= 0}

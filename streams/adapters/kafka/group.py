"""One member of a consumer group through aiokafka, with commit metadata and static membership.

Invariant: offsets are committed only explicitly; partitions are assigned by range, so that equal topics give one
member the same partition numbers; the client never moves a position by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from streams.adapters.kafka import consumers
from streams.adapters.kafka.offsets import KafkaCommits
from streams.job import TransientError
from streams.ports import OutOfRangeError, OwnershipLostError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from streams.ports import Committed, Record

# Records of one poll: the rest stays with the client as the bytes it came in. So few of them are run while the
# processor's cache still holds them: with 4,000 a no-op run takes 22.4 us of CPU per record instead of 17.2.
_MOST = 256
_PATIENCE = 10_000  # milliseconds until a request without an answer is given up, and its connection with it
_LARGEST = 16_777_216  # bytes of one answer: what a slow network brings within the patience
_LOST = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    def __init__(
        self, consumer: AIOKafkaConsumer, revoked: Callable[[bool], Awaitable[None]], assigned: Callable[[], None]
    ) -> None:
        self._consumer = consumer
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: object) -> None:
        del revoked  # the protocol is eager: everything goes
        # Whom the group has dropped has no generation any more; there is no public way to ask.
        await self._revoked(self._consumer._coordinator.generation < 0)  # noqa: SLF001

    async def on_partitions_assigned(self, assigned: object) -> None:
        del assigned
        self._assigned()


class KafkaGroupConsumer:
    """The ``GroupConsumer`` port.

    Args:
        options: As from ``client_options``.
        session_timeout: Seconds without a heartbeat until the group gives our partitions away.
        rebalance_timeout: Seconds the group waits for us to finish what runs.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        group: str,
        topics: Sequence[str],
        session_timeout: float,
        rebalance_timeout: float,
        instance: str | None = None,
    ) -> None:
        self._options = dict(options)
        self._group = group
        self._topics = topics
        self._timeouts = {
            "session_timeout_ms": int(session_timeout * 1000),
            # By its heartbeat a member hears of a rebalance: in time even where a session may be long.
            "heartbeat_interval_ms": int(min(session_timeout, rebalance_timeout) * 1000 / 4),
            "rebalance_timeout_ms": int(rebalance_timeout * 1000),
            "request_timeout_ms": _PATIENCE,  # to join may take longer, see ``heed_broken_connections``
        }
        self._instance = instance
        self._consumer: AIOKafkaConsumer | None = None
        self._commits = KafkaCommits(options, group)

    async def start(self, revoked: Callable[[bool], Awaitable[None]], assigned: Callable[[], None]) -> None:
        """Join the group.

        Raises:
            TransientError: No broker can be reached.
        """
        consumer = AIOKafkaConsumer(
            **self._options,
            **self._timeouts,
            group_id=self._group,
            group_instance_id=self._instance,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            partition_assignment_strategy=(RangePartitionAssignor,),
            # Restoring a partition with a long tier takes a while, and nothing is polled meanwhile.
            max_poll_interval_ms=1_800_000,
            fetch_max_wait_ms=250,
            max_partition_fetch_bytes=1_048_576,
            fetch_max_bytes=_LARGEST,
        )
        try:
            consumer.subscribe(list(self._topics), listener=_Listener(consumer, revoked, assigned))
            await consumer.start()
        except KafkaError as error:
            await consumers.close(consumer)
            raise TransientError(f"group {self._group}: cannot join: {error}") from error
        self._consumer = consumer

    async def stop(self) -> None:
        """Leave the group; a static member only disconnects and keeps its partitions for the session time-out."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumers.close(consumer)

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions owned now."""
        return frozenset(TopicPartition(tp.topic, tp.partition) for tp in self._running.assignment())

    def ends(self) -> dict[TopicPartition, int]:
        """The end offsets that the last fetches told of; partitions not fetched yet are left out."""
        known = {tp: self._running.highwater(tp) for tp in self._running.assignment()}
        return {TopicPartition(tp.topic, tp.partition): end for tp, end in known.items() if end is not None}

    async def poll(
        self, wait: float, among: Collection[TopicPartition] | None = None
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """What was fetched (of these partitions only, if named), at most ``_MOST`` records."""
        wanted = [aiokafka.TopicPartition(*partition) for partition in among or ()]
        try:
            return await self._running.getmany(  # type: ignore[no-any-return]
                *wanted, timeout_ms=int(wait * 1000), max_records=_MOST
            )
        except NoOffsetForPartitionError:
            return {}  # assigned, but nobody has said yet where to begin
        except OffsetOutOfRangeError as error:
            (lost,) = error.args
            raise OutOfRangeError({TopicPartition(*place): at for place, at in lost.items()}) from error
        except KafkaError as error:
            raise TransientError(f"group {self._group}: cannot poll: {error}") from error

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """What the group committed; partitions without a commit are left out."""
        return await self._commits.committed(partitions)

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit offsets and metadata in one request."""
        request = {aiokafka.TopicPartition(*partition): tuple(at) for partition, at in offsets.items()}
        try:
            await self._running.commit(request)
        except _LOST as error:
            raise OwnershipLostError(f"group {self._group}: {error}") from error
        except KafkaError as error:
            raise TransientError(f"group {self._group}: cannot commit: {error}") from error

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from ``offset``."""
        self._running.seek(aiokafka.TopicPartition(*partition), offset)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Do not fetch these; what was prefetched of them is thrown away and fetched again later."""
        self._running.pause(*(aiokafka.TopicPartition(*partition) for partition in partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch them again."""
        self._running.resume(*(aiokafka.TopicPartition(*partition) for partition in partitions))

    @property
    def _running(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise OwnershipLostError(f"group {self._group}: not a member")
        return self._consumer

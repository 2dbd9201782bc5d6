"""Where one key stands in the family of one group: unread in the source, in which tiers, behind which dead letters.

Invariant: only the key's own partition is read, of the source at most ``depth`` records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.core.restore import restore
from streams.core.standing import at_levels
from streams.core.track import SHELF_SOURCE
from streams.deadletters.entry import Filters
from streams.engine.takeover import read_shelves
from streams.ports import TopicPartition
from streams.standing.topics import partitions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.core.gaps import Gap
    from streams.core.intervals import Intervals
    from streams.core.replay import State
    from streams.core.restore import Shelf
    from streams.core.standing import AtLevel
    from streams.deadletters.entry import Entry
    from streams.deadletters.ledger import Ledger
    from streams.deadletters.reading import DeadLetters
    from streams.engine.family import Family
    from streams.ports import Commits, LogReader

# What an operator may still act on; the rest is settled.
OPEN: frozenset[State] = frozenset({"open", "parked", "waiting"})


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The key's records in the source that no commit calls finished; a worker may be running them.

    Attributes:
        records: How many were found.
        offset: Of the first; None where there is none.
        published: When the first was, ms since the epoch; None where there is none.
        before: Unfinished records of other keys that stand before the first.
        beyond: Records at the end of the partition that were not looked at.
    """

    records: int
    offset: int | None
    published: int | None
    before: int
    beyond: int


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """See the module; ``levels`` has what runs first in front."""

    group: str
    source: str
    partition: int
    unfinished: Unfinished
    levels: tuple[AtLevel, ...]
    dead_letters: tuple[Entry, ...]
    gaps: Mapping[TopicPartition, Gap]


class Keys:
    """Looks at keys.

    Args:
        partition_of: Where a key lives, among so many partitions.
        depth: Records of the source to look at, at most.
    """

    def __init__(
        self,
        reader: LogReader,
        letters: DeadLetters,
        ledger: Ledger,
        partition_of: Callable[[bytes, int], int],
        *,
        depth: int,
    ) -> None:
        self._reader = reader
        self._letters = letters
        self._ledger = ledger
        self._partition_of = partition_of
        self._depth = depth

    async def standing(self, family: Family, commits: Commits, key: bytes) -> KeyStanding:
        """Where the key stands.

        Raises:
            MissingTopicError: A topic of the family does not exist.
            TransientError: No broker answered.
        """
        source = family.topics[SHELF_SOURCE]
        partition = self._partition_of(key, len(await partitions_of(family, self._reader)))
        shelves, gaps = await read_shelves(family, [partition], commits, self._reader)
        found = shelves[partition]
        lanes = restore(partition, (), "", found)
        return KeyStanding(
            family.group,
            source,
            partition,
            await self._unfinished(TopicPartition(source, partition), found[SHELF_SOURCE], lanes.source.ahead, key),
            at_levels(lanes, found, key),
            tuple(await self._dead(family, partition, key)),
            gaps,
        )

    async def _unfinished(self, place: TopicPartition, shelf: Shelf, finished: Intervals, key: bytes) -> Unfinished:
        stop = min(shelf.end, shelf.committed + self._depth)
        records, before, offset, published = 0, 0, None, None
        async for batch in self._reader.read({place: shelf.committed}, {place: stop}):
            for record in batch:
                if record.offset in finished:
                    continue
                if record.key == key:
                    records += 1
                    offset, published = (record.offset, record.timestamp) if offset is None else (offset, published)
                elif offset is None:
                    before += 1
        return Unfinished(records, offset, published, before, shelf.end - stop)

    async def _dead(self, family: Family, partition: int, key: bytes) -> Sequence[Entry]:
        filters = Filters(group=family.group, topic=family.dlt, partition=partition, states=OPEN)
        found = [entry async for entry in self._letters.entries(filters, self._ledger) if entry.record.key == key]
        return sorted(found, key=lambda entry: entry.offset)

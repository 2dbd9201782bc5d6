"""The topics of one group's family and the shelves the core knows them by.

Invariant: one process owns the same partition numbers of every topic of the family, or none at all.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from streams.core import headers
from streams.core.track import SHELF_SOURCE
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.job import Group


class CoPartitionError(Exception):
    """The topics of a family do not have equal partitions in one hand: order could not be kept."""


class Family:
    """Topics by shelf, shelves by topic."""

    def __init__(self, group: Group) -> None:
        self.group = group.name
        self.source = group.source
        tiers = {n: headers.tier_topic(group.source, group.name, n) for n in range(len(group.tiers) + 1)}
        self.topics = {
            SHELF_SOURCE: group.source,
            **tiers,
            headers.DLT: headers.dlt_topic(group.source, group.name),
        }
        self.shelves = {topic: shelf for shelf, topic in self.topics.items()}
        self.dlt = self.topics[headers.DLT]

    def place(self, partition: int, shelf: int) -> TopicPartition:
        """The partition of a shelf's topic."""
        return TopicPartition(self.topics[shelf], partition)

    def partitions(self, assignment: Iterable[TopicPartition]) -> list[int]:
        """The partition numbers owned of the whole family.

        Raises:
            CoPartitionError: A number is owned of some topics only.
        """
        owned: dict[int, set[str]] = defaultdict(set)
        for topic, partition in assignment:
            owned[partition].add(topic)
        for partition, topics in owned.items():
            if missing := set(self.shelves) - topics:
                raise CoPartitionError(
                    f"group {self.group}: partition {partition} of {', '.join(sorted(missing))} is not ours although "
                    f"that of {', '.join(sorted(topics))} is; all topics of a family need equal partition counts and "
                    "all members the same version: run `keylane topics plan`"
                )
        return sorted(owned)

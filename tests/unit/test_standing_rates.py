"""How fast a group goes, from two looks at what it committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core import commit_map
from streams.engine.family import Family
from streams.job import Group
from streams.ports import Committed, TopicPartition
from streams.standing.groups import Progress, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

FAMILY = Family(Group(name="g", source="s", tiers=(), partitions=2, concurrency=1, works={}))


class Broker:
    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, partition): 50 for topic in topics for partition in range(2)}

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        return {partitions[0]: Committed(10, commit_map.encode(10, [(12, 15), (20, 21)], None)[0])}


async def test_offsets_finished_above_the_commit_count_as_finished() -> None:
    assert await progress(FAMILY, Broker(), Broker(), 7.0) == Progress(7.0, published=100, finished=14)


def test_rates_are_over_the_time_between_the_looks() -> None:
    assert Progress(12.0, 130, 50).since(Progress(2.0, 100, 30)) == (3.0, 2.0)

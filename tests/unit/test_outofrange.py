"""What is to be read next is not in the log: which ownership can go on, and which is built anew."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from streams.core.gaps import Gap
from streams.core.intervals import Intervals
from streams.engine.family import Family
from streams.engine.outofrange import gaps_behind
from streams.job import Group
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Sequence

FAMILY = Family(Group(name="g", source="s", tiers=(1.0,), partitions=1, concurrency=1, works={}))
SOURCE, TIER = TopicPartition("s", 0), TopicPartition("s.g.retry.1", 0)


class Log:
    def __init__(self, start: int, end: int) -> None:
        self._bounds = start, end

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, 0): self._bounds[0] for topic in topics}

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, 0): self._bounds[1] for topic in topics}


def core(*finished: tuple[int, int]) -> SimpleNamespace:
    lanes = SimpleNamespace(source=SimpleNamespace(ahead=Intervals(finished)))
    return SimpleNamespace(partitions={0: lanes})


async def test_a_source_is_read_on_where_the_log_begins_and_counts_what_was_not_finished() -> None:
    gaps = await gaps_behind(FAMILY, core((4, 6)), Log(7, 9), {SOURCE: 3})
    assert gaps == {SOURCE: Gap("expired", 3, 7, dropped=2)}


async def test_a_tier_that_lost_records_needs_a_new_look_at_what_is_outstanding() -> None:
    assert await gaps_behind(FAMILY, core(), Log(7, 9), {TIER: 3}) is None


async def test_a_log_that_was_cut_off_is_not_what_was_read() -> None:
    assert await gaps_behind(FAMILY, core(), Log(0, 9), {SOURCE: 10}) is None


async def test_a_place_that_is_there_after_all_is_read_again() -> None:
    assert await gaps_behind(FAMILY, core(), Log(0, 9), {SOURCE: 9}) == {}


async def test_a_partition_that_went_to_somebody_else_is_left_alone() -> None:
    nobody = SimpleNamespace(partitions={})
    assert await gaps_behind(FAMILY, nobody, Log(7, 9), {SOURCE: 3}) == {}

"""What is read from the broker when partitions are taken over, from logs and commits in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from streams.core import headers
from streams.core.commands import Fetch
from streams.core.group import Core, Limits
from streams.core.replay import discard_headers
from streams.core.track import SHELF_SOURCE
from streams.engine import takeover
from streams.engine.family import Family
from streams.engine.takeover import read_in_portions, read_shelves
from streams.job import Group
from streams.ports import Committed, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streams.core.restore import Shelf

FAMILY = Family(Group(name="g", source="s", tiers=(2.0,), partitions=1, concurrency=1, works={}))
OWN = "m1"


class Rec(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes
    headers: Sequence[tuple[str, bytes]]
    value: bytes = b"v"


class Many:
    """The same ports over partitions that have so many records in the first tier, and nothing else."""

    def __init__(self, *waiting: int) -> None:
        self.waiting = waiting
        self.reads: list[list[int]] = []

    def _each(self, offsets: Sequence[int]) -> dict[TopicPartition, int]:
        tier = {FAMILY.place(number, 1): offset for number, offset in enumerate(offsets)}
        return {FAMILY.place(number, shelf): 0 for number in range(len(offsets)) for shelf in FAMILY.topics} | tier

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        return {}

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return self._each([0] * len(self.waiting))

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return self._each(self.waiting)

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Rec]]:
        self.reads.append([place.partition for place in end])
        yield [Rec(*place, offset, b"k", ()) for place, stop in end.items() for offset in range(stop)]


class Log:
    """The ``LogReader`` and ``Commits`` ports over one partition of each topic."""

    def __init__(self) -> None:
        self.records: dict[int, list[Rec]] = {shelf: [] for shelf in FAMILY.topics}
        self.commits: dict[int, Committed] = {}

    def append(self, shelf: int, key: bytes, record_headers: Sequence[tuple[str, bytes]] = ()) -> None:
        log = self.records[shelf]
        log.append(Rec(FAMILY.topics[shelf], 0, len(log), key, record_headers))

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        return {FAMILY.place(0, shelf): at for shelf, at in self.commits.items()}

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {FAMILY.place(0, shelf): 0 for shelf in self.records}

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {FAMILY.place(0, shelf): len(log) for shelf, log in self.records.items()}

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Rec]]:
        for place, stop in end.items():
            yield self.records[FAMILY.shelves[place.topic]][start[place] : stop]


def counts(shelves: Mapping[int, Mapping[int, Shelf]]) -> dict[int, int]:
    return {partition: len(found[1].scanned) for partition, found in shelves.items()}


async def test_what_waits_is_read_a_few_partitions_at_a_time_so_that_it_need_not_all_be_held(monkeypatch) -> None:
    monkeypatch.setattr(takeover, "_PORTION", 4)
    log = Many(1, 2, 0, 3, 9, 1)
    found = [counts(some.shelves) async for some in read_in_portions(FAMILY, range(6), log, log)]
    assert found == [{0: 1, 1: 2, 2: 0}, {3: 3}, {4: 9}, {5: 1}]
    assert log.reads == [[0, 1], [3], [4], [5]], "what has nothing is not read at all"
    whole = await read_shelves(FAMILY, range(6), log, log)
    assert counts(whole.shelves) == dict(enumerate(log.waiting))


async def taken_over(log: Log) -> Core:
    """A core that owns the partition and has committed once."""
    core = Core((2.0,), Limits(concurrency=1))
    shelves, _ = await read_shelves(FAMILY, [0], log, log)
    core.assigned(0, shelves[0], OWN)
    core.commit()
    core.committed(acknowledged=True, now=0.0)
    return core


@pytest.fixture
def held() -> Log:
    """``a`` is held by the dead letter at 0, and a record waits behind it at 1; the dead letter at 2 holds ``b``."""
    log = Log()
    for offset, key in enumerate((b"a", b"a", b"b")):
        log.append(SHELF_SOURCE, key)
        way = {headers.LEVEL: "0.dlt", headers.FROM: f"source@{offset}", headers.MOVER: OWN, headers.HOLD: headers.HELD}
        waits = {headers.CLASSIFICATION: headers.FOLLOWER} if offset == 1 else {}
        log.append(headers.DLT, key, headers.replaced((), way | waits))
    return log


@pytest.mark.parametrize("lost", ["", "kl2.AAAA"])
async def test_a_key_that_was_freed_is_not_held_again_where_another_tool_has_set_the_offsets(
    held: Log, lost: str
) -> None:
    held.append(0, b"a", discard_headers(held.records[headers.DLT][0].headers, 0, "d1"))
    held.commits = {
        SHELF_SOURCE: Committed(3, ""),
        0: Committed(1, ""),
        1: Committed(0, ""),
        headers.DLT: Committed(0, lost),
    }
    core = await taken_over(held)
    assert core.take_commands(0.0) == [Fetch(0, 1)], "what waited behind it is next"
    assert core.partitions[0].held.keys == [b"a", b"b"], "the other one is held as before"

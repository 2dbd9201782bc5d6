from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core import headers as h
from streams.core.deadletter import Failure, dead_letter_headers
from streams.core.replay import Where
from streams.deadletters import ledger as states
from streams.deadletters.entry import Family, Filters, families, format_ref, parse_ref
from streams.deadletters.operation import Operations
from streams.deadletters.reading import DeadLetterError, DeadLetters
from streams.deadletters.writing import Clock, Writer
from streams.groups import groups
from streams.job import Catalogue, Queue, TransientError
from streams.ports import Position, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence

    from streams.deadletters.entry import Entry
    from streams.ports import Message

FAMILY = Family("jobs.emails", "emails")
PARTITIONS = 2


@dataclass(frozen=True, slots=True)
class Stored:
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Killed(BaseException):
    """The process is gone."""


class Broker:
    """Logs in memory; ``lives``: writes until the process dies, before or after the last one is stored."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, list[Stored]] = defaultdict(list)
        self.ended: dict[TopicPartition, int] = {TopicPartition(states.TOPIC, 0): 0}
        for topic in (FAMILY.dlt, FAMILY.replays):
            self.ended |= {TopicPartition(topic, partition): 0 for partition in range(PARTITIONS)}
        self.lives: float = float("inf")
        self.stores_the_last = True
        self.now = 1_000_000

    def put(self, message: Message) -> Position:
        place = TopicPartition(message.topic, message.partition or 0)
        offset = self.ended[place]
        self.ended[place] += 1
        self.now += 1
        self.logs[place].append(Stored(*place, offset, self.now, message.key, message.value, list(message.headers)))
        return Position(*place, offset)

    async def publish(self, message: Message) -> Position:
        return await (await self.send(message))

    async def send(self, message: Message) -> Awaitable[Position]:
        self.lives -= 1
        if self.lives < 0:
            if self.stores_the_last and self.lives >= -1:
                self.put(message)
            raise Killed
        done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        done.set_result(self.put(message))
        return done

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Stored]]:
        for place, last in end.items():
            found = [record for record in self.logs[place] if start[place] <= record.offset < last]
            for first in range(0, len(found), 3):
                yield found[first : first + 3]

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {place: end for place, end in self.ended.items() if place.topic in topics}

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {
            place: self.logs[place][0].offset if self.logs[place] else end
            for place, end in self.ended.items()
            if place.topic in topics
        }

    def compact(self) -> None:
        place = TopicPartition(states.TOPIC, 0)
        latest = {record.key: record for record in self.logs[place]}
        self.logs[place] = [record for record in self.logs[place] if latest[record.key] is record]

    def replays(self) -> list[Stored]:
        return [record for place in sorted(self.ended) if place.topic == FAMILY.replays for record in self.logs[place]]

    def copied(self) -> list[tuple[int, str]]:
        return [(record.partition, h.text(record.headers, h.FROM) or "") for record in self.replays()]


class Desk:
    """An operator's process over a broker, with a clock that never waits."""

    def __init__(self, broker: Broker, *, by: str = "op", window: int = 7, max_replays: int = 3) -> None:
        self.broker = broker
        self.seconds = 0.0
        self.letters = DeadLetters(broker, [FAMILY], max_replays=max_replays, window=window)
        self.operations = Operations(self.letters, broker, Clock(self.time, self.time, self.sleep), by=by)

    def time(self) -> float:
        self.seconds += 0.01
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    async def entries(self, **filters: Any) -> list[Entry]:
        ledger = await self.letters.ledger()
        return [entry async for entry in self.letters.entries(Filters(**filters), ledger)]

    async def states(self) -> dict[str, str]:
        return {entry.ref: entry.state for entry in await self.entries()}

    async def do(self, kind: str = "replay", name: str = "r-1", limit: int | None = None, **filters: Any) -> Any:
        draft = await self.operations.draft(kind, Filters(**filters), limit)  # type: ignore[arg-type]
        return await self.operations.run(await self.operations.start(draft, name))

    async def finish(self, kind: str = "replay", name: str = "r-1") -> Any:
        return await self.operations.run(await self.operations.resume(kind, name))  # type: ignore[arg-type]


def die(broker: Broker, key: str | None, origin: int, partition: int = 0, **extra: Any) -> str:
    """A dead letter as the engine writes it; its name."""
    ways = {h.LEVEL: f"{extra.get('generation', 0)}.dlt", h.REPLAYS: str(extra.get("replays", 0))}
    if extra.get("held"):
        ways[h.HOLD] = "1"
    failure = Failure(
        topic=FAMILY.source,
        partition=partition,
        offset=origin,
        timestamp=5,
        group=FAMILY.group,
        handler="h",
        attempts=5,
        time=extra.get("time", broker.now),
        exception=extra.get("exception", "a.b.BadError"),
        message="m",
        stack=lambda: "s",
        classification=extra.get("classification", "final"),
        version="1",
    )
    headers = dead_letter_headers(
        h.replaced([("ce_type", extra.get("type", "x.y").encode())], ways), failure, aliases=False
    )
    key_bytes = None if key is None else key.encode()
    position = broker.put(states.Message(FAMILY.dlt, key_bytes, b"v%d" % origin, headers, partition))
    return format_ref(Where(position.topic, position.partition), position.offset)


@pytest.fixture
def broker() -> Broker:
    return Broker()


# -- reading -------------------------------------------------------------------------------------------------------


async def test_entries_come_newest_first_whatever_the_window(broker: Broker) -> None:
    names = [die(broker, f"t/{n}", n, n % 2) for n in range(40)]
    assert [entry.ref for entry in await Desk(broker, window=100).entries()] == names[::-1]
    for window in (1, 3, 20):
        found = [entry.ref for entry in await Desk(broker, window=window).entries()]
        assert sorted(found) == sorted(names)


async def test_filters_choose(broker: Broker) -> None:
    die(broker, "a/1", 0, 0, time=100)
    die(broker, "b/1", 1, 1, time=200, type="other", exception="c.OtherError")
    die(broker, "a/2", 2, 0, time=300)
    die(broker, None, 3, 0, time=400)
    desk = Desk(broker)

    async def offsets(**filters: Any) -> list[int]:
        return sorted(entry.origin.offset for entry in await desk.entries(**filters) if entry.origin)

    assert await offsets(tenant="a") == [0, 2]
    assert await offsets(key="a/2") == [2]
    assert await offsets(key="1") == [0, 1]
    assert await offsets(type="other") == [1]
    assert await offsets(exception="OtherError") == await offsets(exception="c.OtherError") == [1]
    assert await offsets(since=200) == [1, 2, 3]
    assert await offsets(until=300) == [0, 1]
    assert await offsets(partition=1) == [1]
    assert await offsets(partition=0, first=1, last=1) == [2]
    assert await offsets(group="emails", topic="jobs.emails") == await offsets(topic=FAMILY.dlt) == [0, 1, 2, 3]
    assert await offsets(group="nobody") == []
    assert await offsets(states=frozenset({"resolved"})) == []


async def test_reading_stops_where_everything_is_too_old(broker: Broker) -> None:
    for n in range(50):
        broker.now = n * 100_000
        die(broker, "t/k", n)
    read: list[int] = []
    original = broker.read

    async def counting(start: Any, end: Any) -> AsyncIterator[Sequence[Stored]]:
        read.append(sum(end.values()) - sum(start.values()))
        async for batch in original(start, end):
            yield batch

    broker.read = counting  # type: ignore[method-assign]
    desk = Desk(broker, window=5)
    assert len(await desk.entries(since=4_800_000)) == 2
    assert sum(read) <= 10


async def test_what_a_stranger_wrote_is_an_entry_with_gaps(broker: Broker) -> None:
    broker.put(states.Message(FAMILY.dlt, b"\xff", None, [(h.LEVEL, b"\xfe"), ("ce_type", None)], 0))  # type: ignore[list-item]
    (entry,) = await Desk(broker).entries()
    assert (entry.state, entry.type, entry.exception, entry.origin, entry.generation) == ("open", "", "", None, 0)
    assert entry.tenant == ""


async def test_a_dead_letter_written_twice_is_one_entry_the_later(broker: Broker) -> None:
    die(broker, "t/k", 7)
    die(broker, "t/k", 8)
    later = die(broker, "t/k", 7)
    again = die(broker, "t/k", 7, replays=1)
    assert [entry.ref for entry in await Desk(broker, window=2).entries(key="k")][:2] == [again, later]
    assert len(await Desk(broker, window=2).entries()) == 3


async def test_followers_wait_and_often_replayed_ones_are_parked(broker: Broker) -> None:
    follower = die(broker, "t/k", 1, classification="follower", held=True)
    parked = die(broker, "t/p", 2, replays=3)
    assert await Desk(broker, max_replays=3).states() == {follower: "waiting", parked: "parked"}
    assert (await Desk(broker, max_replays=4).states())[parked] == "open"


async def test_the_engines_word_that_a_replayed_record_finished_is_kept(broker: Broker) -> None:
    name = die(broker, "t/k", 1)
    desk = Desk(broker)
    await desk.do()
    assert await desk.states() == {name: "replayed"}
    broker.put(states.state_message(name, "resolved", at=1, replay_id="r-1"))
    broker.compact()
    assert await desk.states() == {name: "resolved"}


async def test_without_the_state_topic_one_sentence_says_what_to_do(broker: Broker) -> None:
    del broker.ended[TopicPartition(states.TOPIC, 0)]
    with pytest.raises(DeadLetterError, match=r"keylane\.dlt-state does not exist: run `keylane topics apply`"):
        await Desk(broker).entries()


async def test_one_entry_by_its_name(broker: Broker) -> None:
    name = die(broker, "t/k", 1)
    desk = Desk(broker)
    place = parse_ref(name)
    assert place is not None
    assert (await desk.letters.entry(*place, await desk.letters.ledger())).ref == name
    with pytest.raises(DeadLetterError, match=r"emails.dlt/0/9 does not exist"):
        await desk.letters.entry(place[0], 9, await desk.letters.ledger())
    with pytest.raises(DeadLetterError, match="other is not a dead-letter topic"):
        await desk.letters.entry(Where("other", 0), 9, await desk.letters.ledger())


@pytest.mark.parametrize("text", ["", "a", "a/b/c", "/1/2", "a/1", "a/1/2/3", "a/-1/2"])
def test_what_is_no_entrys_name_is_none(text: str) -> None:
    assert parse_ref(text) is None


def test_every_group_has_a_family() -> None:
    assert families(groups(Catalogue(queues=(Queue(name="emails"),)))) == (FAMILY,)
    assert (FAMILY.dlt, FAMILY.replays) == ("jobs.emails.emails.dlt", "jobs.emails.emails.retry.0")


@given(
    st.binary(),
    st.one_of(st.none(), st.binary(), st.dictionaries(st.text(), st.integers()).map(lambda d: json.dumps(d).encode())),
)
def test_the_ledger_passes_over_what_is_not_its_own(key: bytes, value: bytes | None) -> None:
    for prefix in (b"", b"replay/", b"claim/r/", b"claim/r/0", b"a/1/2"):
        ledger = states.Ledger()
        ledger.fold([Stored(states.TOPIC, 0, 4, 0, prefix + key, value, [])])
        assert ledger.end == 5
        assert ledger.standing(Where("a", 1), 2).state == "open"


# -- replay and discard --------------------------------------------------------------------------------------------


async def test_a_replay_writes_key_value_and_user_headers_to_the_same_partition(broker: Broker) -> None:
    die(broker, "t/k", 7, 1)
    report = await Desk(broker).do()
    (copy,) = broker.replays()
    assert (copy.partition, copy.key, copy.value, copy.headers[0]) == (1, b"t/k", b"v7", ("ce_type", b"x.y"))
    assert h.text(copy.headers, h.FROM) == "0.dlt@0"
    assert h.text(copy.headers, h.LEVEL) == "1.0.0"
    assert report.done == 1


async def test_what_dies_after_the_plan_is_not_in_it(broker: Broker) -> None:
    die(broker, "t/k", 1)
    desk = Desk(broker)
    draft = await desk.operations.draft("replay", Filters())
    late = die(broker, "t/k", 2)
    await desk.operations.run(await desk.operations.start(draft, "r-1"))
    assert broker.copied() == [(0, "0.dlt@0")]
    assert (await desk.states())[late] == "open"


async def test_planning_writes_nothing(broker: Broker) -> None:
    die(broker, "t/k", 1)
    before = dict(broker.ended)
    await Desk(broker).operations.draft("replay", Filters())
    assert broker.ended == before


async def test_a_second_replay_finds_nothing_left(broker: Broker) -> None:
    die(broker, "t/k", 1)
    desk = Desk(broker)
    await desk.do()
    assert (await desk.do(name="r-2")).done == 0
    assert len(broker.copied()) == 1


async def test_a_discard_writes_only_for_held_keys(broker: Broker) -> None:
    held, plain = die(broker, "t/h", 1, held=True), die(broker, "t/p", 2)
    desk = Desk(broker)
    await desk.do("discard", "d-1")
    (control,) = broker.replays()
    assert (control.key, control.value, h.text(control.headers, h.CONTROL)) == (b"t/h", None, "discard")
    assert await desk.states() == {held: "discarded", plain: "discarded"}


async def test_the_copies_of_a_held_dead_letter_are_freed_behind_it(broker: Broker) -> None:
    die(broker, "t/h", 1, held=True)
    die(broker, "t/h", 1, held=True)
    await Desk(broker).do()
    assert [(h.text(r.headers, h.FROM), h.text(r.headers, h.CONTROL)) for r in broker.replays()] == [
        ("0.dlt@1", None),
        ("0.dlt@0", "discard"),
    ]


async def test_a_record_with_neither_key_nor_value_can_be_replayed(broker: Broker) -> None:
    broker.put(states.Message(FAMILY.dlt, None, None, [], 0))
    await Desk(broker).do()
    assert [(record.key, record.value) for record in broker.replays()] == [(None, b"")]


async def test_two_replays_planned_at_once_share_nothing(broker: Broker) -> None:
    for n in range(10):
        die(broker, f"t/{n}", n)
    one, two = Desk(broker, by="one"), Desk(broker, by="two")
    drafts = [await desk.operations.draft("replay", Filters()) for desk in (one, two)]
    first = await one.operations.start(drafts[0], "r-1")
    second = await two.operations.start(drafts[1], "r-2")
    broker.compact()
    assert (first.entries, second.entries) == (10, 0)
    await two.operations.run(second)
    await one.operations.run(first)
    assert len(broker.copied()) == len(set(broker.copied())) == 10


async def test_what_an_unfinished_replay_took_is_left_to_it(broker: Broker) -> None:
    die(broker, "t/1", 1)
    desk = Desk(broker)
    await desk.operations.start(await desk.operations.draft("replay", Filters()), "r-1")
    draft = await desk.operations.draft("replay", Filters())
    assert len(draft.plan) == 0
    assert "replay r-1" in draft.plan.refusals[0].reason
    (entry,) = await desk.entries()
    assert (entry.state, entry.operation, entry.unfinished) == ("open", "replay r-1", True)


async def test_nobody_resumes_what_is_being_worked_on(broker: Broker) -> None:
    die(broker, "t/1", 1)
    one, two = Desk(broker, by="one"), Desk(broker, by="two")
    operation = await one.operations.start(await one.operations.draft("replay", Filters()), "r-1")

    async def beat_while_two_waits(seconds: float) -> None:
        del seconds
        broker.put(states.replace(operation, beat=operation.beat + 1).message)

    two.operations._clock = two.operations._clock._replace(sleep=beat_while_two_waits)
    with pytest.raises(DeadLetterError, match="replay r-1 is being worked on by one"):
        await two.finish()


async def test_a_resume_waits_long_only_where_the_other_process_may_still_live(broker: Broker) -> None:
    die(broker, "t/1", 1)
    waits = {}
    for name, ended in (("r-1", False), ("r-2", True)):
        desk = Desk(broker)
        await desk.operations.start(await desk.operations.draft("replay", Filters()), name)
        desk.operations._ended = lambda by, ended=ended: by == "op" and ended
        before = desk.seconds
        await desk.operations.resume("replay", name)
        waits[name] = round(desk.seconds - before)
    assert waits == {"r-1": 20, "r-2": 1}


async def test_who_was_taken_over_stops(broker: Broker) -> None:
    for n in range(5):
        die(broker, f"t/{n}", n)
    one, two = Desk(broker, by="one"), Desk(broker, by="two")
    operation = await one.operations.start(await one.operations.draft("replay", Filters()), "r-1")
    await two.operations.resume("replay", "r-1")
    one.operations._clock = one.operations._clock._replace(monotonic=lambda: one.time() * 1000)
    with pytest.raises(DeadLetterError, match="replay r-1 was taken over by two"):
        await one.operations.run(operation)
    assert broker.copied() == []


async def test_only_what_exists_and_has_not_finished_is_resumed(broker: Broker) -> None:
    die(broker, "t/1", 1)
    desk = Desk(broker)
    with pytest.raises(DeadLetterError, match="there is no replay r-9"):
        await desk.finish(name="r-9")
    await desk.do()
    with pytest.raises(DeadLetterError, match="replay r-1 has finished"):
        await desk.finish()
    with pytest.raises(DeadLetterError, match="there is no discard r-1"):
        await desk.finish("discard")


async def test_a_replay_whose_copies_have_expired_is_not_resumed(broker: Broker) -> None:
    die(broker, "t/1", 1)
    desk = Desk(broker)
    await desk.operations.start(await desk.operations.draft("replay", Filters()), "r-1")
    broker.ended[TopicPartition(FAMILY.replays, 0)] = 3
    with pytest.raises(DeadLetterError, match="has lost records it wrote to their retention"):
        await desk.finish()


async def test_a_dead_letter_that_expired_meanwhile_is_counted(broker: Broker) -> None:
    die(broker, "t/1", 1)
    die(broker, "t/2", 2)
    desk = Desk(broker)
    operation = await desk.operations.start(await desk.operations.draft("replay", Filters()), "r-1")
    del broker.logs[TopicPartition(FAMILY.dlt, 0)][0]
    assert await desk.operations.run(operation) == (1, 0, 1)


async def test_the_rate_is_kept(broker: Broker) -> None:
    for n in range(20):
        die(broker, f"t/{n}", n)
    desk = Desk(broker)
    operation = await desk.operations.start(await desk.operations.draft("replay", Filters()), "r-1")
    before, steps = desk.seconds, []
    await desk.operations.run(operation, rate=2, progress=steps.append)
    assert desk.seconds - before >= 9.0
    assert sum(steps) == 20


letters = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2), st.booleans(), st.integers(0, 5)), max_size=14
)


@settings(max_examples=150)
@given(letters, st.sampled_from(["replay", "discard"]), st.integers(0, 2**32))
def test_killed_anywhere_and_resumed_each_entry_is_written_once_and_in_order(
    rows: list[tuple[int, int, int, bool, int]], kind: str, seed: int
) -> None:
    """Any number of kills, at any write, with the last write stored or not, and compaction at any time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.deadletters.operation.CLAIM_SIZE", 3)
        asyncio.run(_killed_and_resumed(rows, kind, random.Random(seed)))


async def _killed_and_resumed(rows: list[tuple[int, int, int, bool, int]], kind: str, chance: random.Random) -> None:
    broker, whole = Broker(), Broker()
    for log in (broker, whole):
        for key, partition, generation, held, origin in rows:
            die(log, f"t/{key}", origin, partition, generation=generation, held=held)
    await Desk(whole).do(kind, "x-1")
    await _until_finished(broker, kind, chance)
    if (await Desk(broker).letters.ledger()).operations["x-1"].entries < len({(row[1], row[4]) for row in rows}):
        # Killed while claiming: what was not claimed is still open, and a further one takes it.
        await Desk(broker).do(kind, "x-2")
    for partition in range(PARTITIONS):
        mine = [place for place in broker.copied() if place[0] == partition]
        assert mine == [place for place in whole.copied() if place[0] == partition]
    assert await Desk(broker).states() == await Desk(whole).states()


async def _until_finished(broker: Broker, kind: str, chance: random.Random) -> None:
    for kills in range(9):
        broker.lives = chance.randrange(1, 12) if kills < 8 else float("inf")
        broker.stores_the_last = chance.random() < 0.5
        desk = Desk(broker, by=f"op-{kills}")
        known = (await desk.letters.ledger()).operations.get("x-1")
        if known is not None and known.status == "finished":
            break
        with suppress(Killed):
            await (desk.finish(kind, "x-1") if known else desk.do(kind, "x-1"))
        if chance.random() < 0.5:
            broker.compact()
    broker.lives = float("inf")


class Slow:
    """A publisher whose acknowledgements come when told."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes | None, asyncio.Future[Position]]] = []

    async def send(self, message: Message) -> asyncio.Future[Position]:
        self.sent.append((message.key, asyncio.get_running_loop().create_future()))
        return self.sent[-1][1]

    async def publish(self, message: Message) -> Position:
        return await (await self.send(message))


async def _nothing() -> None:
    """Still alive."""


async def test_a_record_waits_for_the_acknowledgement_of_the_one_before_it_of_its_key() -> None:
    slow = Slow()
    writer = Writer(slow, Clock(lambda: 0.0, lambda: 0.0, asyncio.sleep), rate=0, alive=_nothing)

    async def write() -> None:
        for key in (b"a", b"b", None, None, b"a", b"c"):
            await writer.write(states.Message("t", key, b"", [], 0))

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    assert [key for key, _ in slow.sent] == [b"a", b"b", None, None]
    for _, answer in slow.sent:
        answer.set_result(Position("t", 0, 0))
    await task
    assert [key for key, _ in slow.sent][4:] == [b"a", b"c"]


async def test_after_an_error_nothing_more_is_sent() -> None:
    slow = Slow()
    writer = Writer(slow, Clock(lambda: 0.0, lambda: 0.0, asyncio.sleep), rate=0, alive=_nothing)
    await writer.write(states.Message("t", b"a", b"", [], 0))
    slow.sent[0][1].set_exception(TransientError("no acknowledgement"))
    with pytest.raises(TransientError):
        await writer.write(states.Message("t", b"a", b"", [], 0))
    assert len(slow.sent) == 1

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.job_status.model import CONTRACT as STATUS
from schemas.job_status.model import Status
from schemas.reservation_held.model import CONTRACT as HELD_CONTRACT
from streams.event import Attributes, to_headers
from streams.history import status_key
from streams.job import TransientError
from streams.live import feed as feed_module
from streams.live.feed import Feed, FullError
from streams.live.notice import Index, Interest, Notice
from streams.live.positions import decode, encode
from streams.live.reading import Reading
from streams.live.subscription import CUT, SLOW, STOPPING, Subscription
from streams.ports import Message, OutOfRangeError, TopicPartition
from tests.eventually import eventually
from tests.gateway_doubles import HELD, TOPICS, Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def status(job_id: str = "j1", state: str = "completed", **changes: object) -> Status:
    fields = {
        "job_id": job_id,
        "type": "notification.signin",
        "queue": "emails",
        "tenant": "steppe",
        "key": "steppe/user-1",
        "status": state,
        "attempt": 1,
        "replays": 0,
        "time": 1_700_000_000_000,
        "topic": "jobs.emails",
        "partition": 0,
        "offset": 5,
    }
    return Status.model_validate(fields | changes)


class Live(Bench):
    """A feed over the gateway's stand-ins."""

    def made(self, **options: object) -> Feed:
        reading = Reading(self.codec, self.metrics)
        return Feed(self.log, self.log, reading, TOPICS, self.metrics, **options)  # type: ignore[arg-type]

    @asynccontextmanager
    async def feed(self, **options: object) -> AsyncIterator[Feed]:
        feed = self.made(**options)
        running = asyncio.create_task(feed.run())
        yield feed
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def happens(self, found: Status) -> None:
        value = await self.codec.encode(STATUS, found)
        await self.log.publish(Message("job-status", status_key(found.tenant, found.job_id), value))

    async def held(self, tenant: str = "steppe", entity: str = "r-1") -> None:
        payload = HELD_CONTRACT.from_value(HELD)
        attributes = Attributes(id="e1", type=HELD_CONTRACT.name, extensions={"tenant": tenant})
        value = await self.codec.encode(HELD_CONTRACT, payload)
        key = f"{tenant}/{entity}".encode()
        await self.log.publish(Message("events.reservation", key, value, to_headers(attributes)))


@pytest.fixture
def live() -> Live:
    return Live()


async def told(found: Subscription, count: int = 1) -> list[Notice]:
    taken: list[Notice] = []
    async with asyncio.timeout(5):
        while len(taken) < count:
            taken += await found.take(1.0)
    return taken


async def test_a_subscriber_is_told_what_happens_from_then_on(live: Live) -> None:
    await live.happens(status(state="processing"))
    async with live.feed() as feed, feed.subscribed(Interest(job="j1")) as found:
        await live.happens(status("another"))
        await live.happens(status())
        (notice,) = await told(found)

    assert (notice.kind, notice.body.status, notice.about.tenant) == ("job", "completed", "steppe")
    assert decode(notice.id) == {TopicPartition("events.reservation", 0): 0, TopicPartition("job-status", 0): 3}


async def test_a_status_that_was_written_under_the_id_alone_is_told_too(live: Live) -> None:
    async with live.feed() as feed, feed.subscribed(Interest(job="jobs.emails/0/7")) as found:
        written = status("jobs.emails/0/7")
        await live.log.publish(Message("job-status", b"jobs.emails/0/7", await live.codec.encode(STATUS, written)))
        (notice,) = await told(found)

    assert notice.about.job == "jobs.emails/0/7"


async def test_an_event_is_told_with_its_attributes_and_its_payload(live: Live) -> None:
    async with live.feed() as feed, feed.subscribed(Interest(tenant="steppe", type="reservation.held")) as found:
        await live.held(tenant="other")
        await live.held()
        (notice,) = await told(found)

    assert (notice.kind, notice.body.attributes["id"], notice.about.key) == ("event", "e1", "steppe/r-1")
    assert notice.body.data.resource_id == "room-1"


async def test_nothing_is_read_while_nobody_asks(live: Live) -> None:
    now = 100.0
    async with live.feed(monotonic=lambda: now) as feed:
        assert feed.positions == {}
        async with feed.subscribed(Interest()):
            assert feed.positions[TopicPartition("job-status", 0)] == 0
        now += feed_module.LINGER + 1

        async def rests() -> bool:
            return feed.positions == {}

        await eventually(rests)
        await live.happens(status())
        async with feed.subscribed(Interest()) as found:
            await live.happens(status("j2"))
            (notice,) = await told(found)

    assert notice.about.job == "j2"


async def test_a_subscriber_that_does_not_keep_up_is_dropped_and_told_so(live: Live) -> None:
    async with live.feed(room=2) as feed, feed.subscribed(Interest()) as slow, feed.subscribed(Interest()) as quick:
        for number in range(3):
            await live.happens(status(f"j{number}"))
            await told(quick)
        kept = await slow.take(0)

    assert (slow.dropped, quick.dropped) == (SLOW, None)
    assert [notice.about.job for notice in kept] == ["j0", "j1"]
    assert await slow.take(9) == []


async def test_a_cut_log_drops_everybody_and_the_next_ones_are_told_what_comes(live: Live) -> None:
    async with live.feed() as feed:
        async with feed.subscribed(Interest()) as before:
            live.log.cut = OutOfRangeError({TopicPartition("job-status", 0): 7})
            assert await before.take(9) == []
            assert before.dropped == CUT
        async with feed.subscribed(Interest()) as after:
            await live.happens(status())
            assert len(await told(after)) == 1


async def test_so_many_are_told_and_no_more_and_all_are_let_go_when_the_process_stops(live: Live) -> None:
    async with live.feed(most=1) as feed:
        async with feed.subscribed(Interest()) as only:
            with pytest.raises(FullError):
                async with feed.subscribed(Interest()):
                    raise AssertionError
            feed.stop()
            assert await only.take(9) == []
            assert only.dropped == STOPPING
        async with feed.subscribed(Interest()):
            pass

    assert b'keylane_live_dropped_total{reason="stopping"} 1.0' in live.metrics.text()
    assert b"keylane_live_subscribers 0.0" in live.metrics.text()


async def test_what_nobody_can_read_is_counted_and_passed_over(live: Live) -> None:
    async with live.feed() as feed, feed.subscribed(Interest()) as found:
        await live.log.publish(Message("job-status", b"j0", b"rubbish"))
        await live.happens(status())
        (notice,) = await told(found)

    assert notice.about.job == "j1"
    assert b'keylane_live_unreadable_total{topic="job-status"} 1.0' in live.metrics.text()


async def test_nothing_is_decoded_that_nobody_wants(live: Live) -> None:
    async with live.feed() as feed, feed.subscribed(Interest(job="j1")) as found:
        await live.log.publish(Message("job-status", b"steppe/j0", b"rubbish"))
        await live.log.publish(Message("job-status", b"j0", b"rubbish"))
        await live.log.publish(Message("events.reservation", b"steppe/r-1", b"rubbish"))
        await live.happens(status())
        await told(found)

    assert b"keylane_live_unreadable_total{" not in live.metrics.text()


async def test_a_reader_that_does_not_get_going_is_an_error(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_PATIENCE", 0.01)
    feed = live.made()

    with pytest.raises(TransientError):
        async with feed.subscribed(Interest()):
            raise AssertionError


fields = st.sampled_from([None, "a", "b"])
interests = st.builds(Interest, fields, fields, fields, fields)


@given(st.lists(interests), st.lists(st.integers(0, 20)), interests)
def test_the_index_finds_exactly_those_whose_interest_is_met(
    members: list[Interest], gone: list[int], about: Interest
) -> None:
    index: Index[int] = Index()
    for number, interest in enumerate(members):
        index.add(interest, number)
    for number in gone:
        if number < len(members):
            index.remove(members[number], number)
    left = {number for number in range(len(members)) if number not in gone}
    notice = Notice("job", about, None)

    assert sorted(index.find(about)) == sorted(number for number in left if members[number].meets(notice))
    assert sorted(index) == sorted(left)
    assert len(index) == len(left)
    if about.job is not None:
        assert index.may_want(about.job) == any(members[number].job in {None, about.job} for number in left)


places = st.dictionaries(
    st.from_regex(r"[a-z][a-z.-]{0,9}", fullmatch=True),
    st.lists(st.integers(0, 10**18 - 1), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@given(places)
def test_an_id_gives_back_the_positions_it_was_made_of(topics: dict[str, list[int]]) -> None:
    positions = {TopicPartition(topic, p): at for topic, offsets in topics.items() for p, at in enumerate(offsets)}

    assert decode(encode(positions)) == positions


@given(drawn=st.text(max_size=50))
@pytest.mark.parametrize("text", ["", "a:1;a:2", "a:-1", "a:1;", "a:" + "9" * 19, "a:1," * 3_000])
def test_text_that_is_no_id_is_told_from_one(text: str, drawn: str) -> None:
    assert decode(text) is None
    assert decode(drawn) is None or ":" in drawn

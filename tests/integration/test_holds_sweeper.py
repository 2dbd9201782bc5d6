from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as Native
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import create_async_engine

from consumers.holds.handler import handle
from consumers.holds.store import Holds
from consumers.holds.sweeper import event_id, sweep
from consumers.holds.table import HOLDS
from schemas.contract import Contract
from schemas.reservation_cancelled.model import Cancelled
from schemas.reservation_confirmed.model import Confirmed
from schemas.reservation_held.model import Held
from schemas.reservation_hold_expired.model import HoldExpired
from streams.adapters.kafka.offsets import KafkaGroupOffsets
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.sql import connect
from streams.dev import ports
from streams.event import Attributes, from_headers, record_key, to_headers
from streams.job import Done, Reject, TransientError
from streams.ports import Message, TopicPartition
from tests.consumer_context import context, services
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from schemas.reservation_fields import ReservationFields
    from streams.ports import Position, Record, Services
    from streams.settings import Settings
    from tests.servers import CreateTopics

NOW = datetime.now(UTC).replace(microsecond=0)
PAST, FUTURE = NOW - timedelta(minutes=1), NOW + timedelta(days=1)


def fields(reservation: str, **more: Any) -> dict[str, Any]:
    return {
        "reservation_id": reservation,
        "resource_id": "court-1",
        "customer_email": "saraa@example.com",
        "customer_name": "Сараа",
        "starts_at": NOW,
        "ends_at": NOW + timedelta(hours=1),
        "quantity": 1,
        **more,
    }


def held(reservation: str, expires_at: datetime = PAST) -> Held:
    return Held(**fields(reservation, expires_at=expires_at))


@pytest.fixture
async def sql(database_url: str, unique: Callable[[str], str]) -> AsyncIterator[AsyncEngine]:
    """An empty schema of its own."""
    schema = unique("holds").replace("-", "_")
    engine = create_async_engine(database_url, connect_args={"server_settings": {"search_path": schema}})
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield engine
    await engine.dispose()


class Log:
    """A topic of its own: writes events there, reads them back, and can break at chosen moments."""

    def __init__(self, topic: str, publisher: KafkaPublisher, reader: KafkaLogReader) -> None:
        self.topic = topic
        self.publisher = publisher
        self.reader = reader
        self.before: dict[str, Exception] = {}
        self.after: dict[str, Exception] = {}
        self.starts_asked: list[Mapping[TopicPartition, int]] = []
        self.read_up_to: dict[TopicPartition, int] | None = None

    async def emit(
        self, contract: Contract, payload: Any, *, tenant: str, entity: str, event_id: str, topic: str | None = None
    ) -> Position:
        if entity in self.before:
            raise self.before.pop(entity)
        position = await self.publisher.publish(
            Message(
                topic=topic or self.topic,
                key=record_key(tenant, entity),
                value=payload.model_dump_json().encode(),
                headers=to_headers(Attributes(id=event_id, type=contract.name)),
            )
        )
        if entity in self.after:
            raise self.after.pop(entity)
        return position

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return await self.reader.ends(topics)

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        assert group == "hold-sweeper"
        return await self.ends([self.topic]) if self.read_up_to is None else self.read_up_to

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return await self.reader.starts(topics)

    def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Record]]:
        if start:
            self.starts_asked.append(start)
        return self.reader.read(start, end)

    async def records(self) -> list[Record]:
        start, end = await self.starts([self.topic]), await self.ends([self.topic])
        return [record async for records in self.reader.read(start, end) for record in records]

    async def expired(self) -> Counter[str]:
        return Counter((record.key or b"").decode() for record in await self.records())


@pytest.fixture
async def log(settings: Settings, unique: Callable[[str], str], create_topics: CreateTopics) -> AsyncIterator[Log]:
    topic = unique("reservations")
    await create_topics(topic, partitions=3)
    publisher = KafkaPublisher(client_options(settings))
    await publisher.start()
    yield Log(topic, publisher, KafkaLogReader(client_options(settings)))
    await publisher.stop()


@pytest.fixture
def given(sql: AsyncEngine, log: Log) -> Services:
    return services(sql=sql, emit=log.emit, log_reader=log, group_offsets=log)


async def happened(given: Services, *events: ReservationFields) -> None:
    for event in events:
        ctx = context(given, record_id="any", entity=event.reservation_id)
        assert await handle(event, ctx) == Done()


async def states(sql: AsyncEngine) -> dict[str, str]:
    async with sql.connect() as connection:
        rows = await connection.execute(select(HOLDS.c.reservation_id, HOLDS.c.state))
        return {row.reservation_id: row.state for row in rows}


async def test_a_hold_that_ran_out_is_announced_once_in_its_own_lane(given: Services, log: Log) -> None:
    await happened(given, held("r-1"), held("r-2", FUTURE))
    for _ in range(3):
        await sweep(given, log.topic)
    (record,) = await log.records()
    assert record.key == b"steppe/r-1"
    assert from_headers(record.headers)["id"] == event_id("steppe", "r-1")
    assert from_headers(record.headers)["type"] == "reservation.hold_expired"
    announced = HoldExpired.model_validate_json(record.value or b"")
    assert announced == HoldExpired(**fields("r-1", expires_at=PAST))
    assert await states(given.sql) == {"r-1": "expired", "r-2": "held"}


@pytest.mark.parametrize("ending", [Confirmed(**fields("r-1")), Cancelled(**fields("r-1"))])
async def test_a_reservation_that_was_ended_in_time_does_not_expire(
    given: Services, log: Log, ending: ReservationFields
) -> None:
    await happened(given, held("r-1"), ending)
    await sweep(given, log.topic)
    assert await log.expired() == {}


async def test_events_that_come_again_or_late_bring_no_hold_back(given: Services, log: Log) -> None:
    await happened(given, Confirmed(**fields("r-1")), held("r-1"), held("r-1"))
    await happened(given, held("r-2"), held("r-2"))
    await sweep(given, log.topic)
    await happened(given, held("r-2"))
    await sweep(given, log.topic)
    assert await log.expired() == {"steppe/r-2": 1}


async def test_a_hold_that_is_prolonged_lives_longer(given: Services, log: Log) -> None:
    await happened(given, held("r-1"), held("r-1", FUTURE))
    await sweep(given, log.topic)
    assert await log.expired() == {}


async def test_a_crash_between_announcing_and_noting_it_announces_nothing_twice(given: Services, log: Log) -> None:
    await happened(given, *(held(f"r-{n}") for n in range(5)))
    log.after["r-2"] = TransientError("the acknowledgement was lost")
    with pytest.raises(TransientError):
        await sweep(given, log.topic)
    assert (await states(given.sql))["r-2"] == "expiring"
    await sweep(given, log.topic)
    assert await log.expired() == {f"steppe/r-{n}": 1 for n in range(5)}
    assert set((await states(given.sql)).values()) == {"expired"}


async def test_a_crash_before_announcing_announces_it_later(given: Services, log: Log) -> None:
    await happened(given, held("r-1"), held("r-2"))
    log.before["r-1"] = TransientError("Kafka is away")
    with pytest.raises(TransientError):
        await sweep(given, log.topic)
    await sweep(given, log.topic)
    assert await log.expired() == {"steppe/r-1": 1, "steppe/r-2": 1}


async def test_a_confirmation_during_an_outage_stops_an_expiry_that_was_not_announced(
    given: Services, log: Log
) -> None:
    await happened(given, held("r-1"))
    log.before["r-1"] = TransientError("Kafka is away")
    with pytest.raises(TransientError):
        await sweep(given, log.topic)
    await happened(given, Confirmed(**fields("r-1")))
    await sweep(given, log.topic)
    assert await log.expired() == {}


async def test_a_look_back_begins_where_the_topic_ended_before(given: Services, log: Log) -> None:
    await happened(given, *(held(f"early-{n}") for n in range(9)))
    await sweep(given, log.topic)
    before = await log.ends([log.topic])
    await happened(given, held("r-1"))
    log.after["r-1"] = TransientError("the acknowledgement was lost")
    with pytest.raises(TransientError):
        await sweep(given, log.topic)
    await sweep(given, log.topic)
    assert log.starts_asked == [before]
    assert (await log.expired())["steppe/r-1"] == 1


async def test_a_sweep_that_is_cut_off_is_finished_by_the_next(given: Services, log: Log) -> None:
    await happened(given, held("r-1"), held("r-2"))
    published = asyncio.Event()

    async def hang(*args: Any, **options: Any) -> Position:
        position = await log.emit(*args, **options)
        published.set()
        await asyncio.sleep(60)
        return position

    dying = asyncio.create_task(sweep(services(sql=given.sql, emit=hang, log_reader=log, group_offsets=log), log.topic))
    await published.wait()
    await asyncio.sleep(0)
    dying.cancel()
    with suppress(asyncio.CancelledError):
        await dying
    await sweep(given, log.topic)
    assert await log.expired() == {"steppe/r-1": 1, "steppe/r-2": 1}


async def confirmed_unread(log: Log, topic: str = "") -> None:
    """A confirmation that the group has not come to."""
    log.read_up_to = await log.ends([log.topic])
    confirmed = Contract(name="reservation.confirmed", kind="event", model=Confirmed, schemas=())
    payload = Confirmed(**fields("r-1"))
    await log.emit(confirmed, payload, tenant="steppe", entity="r-1", event_id="any", topic=topic or log.topic)


async def test_nothing_expires_while_events_wait_unread(
    given: Services, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.holds.lag._INTERVAL", 0.01)
    await happened(given, held("r-1"), held("r-2"))
    await confirmed_unread(log)
    await sweep(given, log.topic)
    assert await states(given.sql) == {"r-1": "held", "r-2": "held"}
    await happened(given, Confirmed(**fields("r-1")))
    log.read_up_to = None
    await sweep(given, log.topic)
    assert await states(given.sql) == {"r-1": "settled", "r-2": "expired"}


async def test_nothing_expires_while_an_event_waits_to_be_tried_again(
    given: Services, log: Log, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.holds.lag._INTERVAL", 0.01)
    tier = f"{log.topic}.hold-sweeper.retry.2"
    await create_topics(tier, partitions=3)
    await happened(given, held("r-1"))
    await confirmed_unread(log, tier)
    await sweep(given, log.topic)
    assert await states(given.sql) == {"r-1": "held"}
    log.read_up_to = await log.ends([log.topic, tier])
    await sweep(given, log.topic)
    assert await states(given.sql) == {"r-1": "expired"}


async def test_a_sweep_tells_how_long_ago_the_oldest_hold_that_it_found_ran_out(
    given: Services, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.holds.lag._INTERVAL", 0.01)
    assert await sweep(given, log.topic) == 0
    await happened(given, held("r-1", NOW - timedelta(hours=2)), held("r-2"), held("r-3", FUTURE))
    await confirmed_unread(log)
    behind = await sweep(given, log.topic)
    log.read_up_to = None
    swept = await sweep(given, log.topic)
    assert 7_200 <= (behind or 0) <= (swept or 0) < 8_000
    assert await sweep(given, log.topic) == 0
    async with Holds(given.sql).alone():
        assert await sweep(given, log.topic) is None


async def test_a_group_that_catches_up_in_time_is_waited_for(given: Services, log: Log) -> None:
    await happened(given, held("r-1"), held("r-2"))
    await confirmed_unread(log)
    sweeping = asyncio.create_task(sweep(given, log.topic))
    await happened(given, Confirmed(**fields("r-1")))
    log.read_up_to = await log.ends([log.topic])
    await sweeping
    assert await states(given.sql) == {"r-1": "settled", "r-2": "expired"}


async def test_the_marker_of_a_transaction_is_no_event_to_wait_for(given: Services, log: Log, kafka: str) -> None:
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=log.topic) as producer,
        producer.transaction(),
    ):
        stored = await producer.send_and_wait(log.topic, b"an event of a foreign client", partition=0)
    place = TopicPartition(log.topic, 0)
    log.read_up_to = {place: stored.offset + 1}

    async def marked() -> bool:  # the broker acknowledges a commit before it has written the marker
        return (await log.ends([log.topic]))[place] > stored.offset + 1

    await eventually(marked)
    await happened(given, held("r-1"))
    await sweep(given, log.topic)
    assert await states(given.sql) == {"r-1": "expired"}


async def test_the_broker_tells_how_far_a_group_is(
    settings: Settings, log: Log, unique: Callable[[str], str], kafka: str
) -> None:
    group, offsets = unique("group"), KafkaGroupOffsets(client_options(settings))
    async with AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign([Native(log.topic, 1)])
        await consumer.commit({Native(log.topic, 1): 7})
    assert await offsets.committed(group) == {TopicPartition(log.topic, 1): 7}
    assert await offsets.committed(unique("nobody")) == {}


async def test_a_broker_that_is_away_stops_the_sweep() -> None:
    offsets = KafkaGroupOffsets({"bootstrap_servers": f"127.0.0.1:{ports.any_free()}"})
    with pytest.raises(TransientError):
        await offsets.committed("any")


async def test_only_one_process_sweeps_at_a_time(given: Services, log: Log) -> None:
    await happened(given, held("r-1"))
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **options: Any) -> Position:
        reached.set()
        await go_on.wait()
        return await log.emit(*args, **options)

    first = asyncio.create_task(sweep(services(sql=given.sql, emit=slow, log_reader=log, group_offsets=log), log.topic))
    await reached.wait()
    await happened(given, held("r-2"))
    await sweep(given, log.topic)
    assert await log.expired() == {}
    go_on.set()
    await first
    assert await log.expired() == {"steppe/r-1": 1, "steppe/r-2": 1}


async def test_many_sweepers_at_once_announce_each_hold_once(given: Services, log: Log) -> None:
    await happened(given, *(held(f"r-{n}") for n in range(40)))
    await asyncio.gather(*(sweep(given, log.topic) for _ in range(5)))
    assert await log.expired() == {f"steppe/r-{n}": 1 for n in range(40)}


async def test_equal_reservations_of_two_tenants_are_two_holds(given: Services, log: Log) -> None:
    for tenant in ("gobi", "altai"):
        await handle(held("r-1"), context(given, record_id="any", tenant=tenant, entity="court-1"))
    await sweep(given, log.topic)
    assert await log.expired() == {"gobi/court-1": 1, "altai/court-1": 1}
    assert event_id("gobi", "r-1") != event_id("altai", "r-1")


async def test_the_first_events_of_all_may_come_at_once(given: Services) -> None:
    await asyncio.gather(*(happened(given, held(f"r-{n}")) for n in range(10)))
    assert len(await states(given.sql)) == 10


async def test_what_is_long_over_is_forgotten(given: Services, log: Log) -> None:
    await happened(given, Confirmed(**fields("old")), Confirmed(**fields("new")), held("still-held", FUTURE))
    async with given.sql.begin() as connection:
        await connection.execute(
            text("UPDATE holds SET updated_at = now() - interval '31 days' WHERE reservation_id <> 'new'")
        )
    await sweep(given, log.topic)
    assert await states(given.sql) == {"new": "settled", "still-held": "held"}


async def test_a_record_without_a_tenant_is_rejected(given: Services) -> None:
    outcome = await handle(held("r-1"), context(given, record_id="any", tenant=""))
    assert isinstance(outcome, Reject)
    assert "<tenant>/<entity>" in outcome.reason


async def test_a_database_that_is_away_makes_the_key_wait() -> None:
    engine = connect(f"postgresql+asyncpg://nobody@127.0.0.1:{ports.any_free()}/none")
    with pytest.raises(TransientError):
        await Holds(engine).remember("steppe", "r-1", held("r-1"))
    with pytest.raises(TransientError):
        await sweep(services(sql=engine))
    await engine.dispose()


def test_the_row_keeps_the_event_as_it_was() -> None:
    kept = json.loads(json.dumps(held("r-1").model_dump(mode="json")))
    assert HoldExpired.model_validate(kept) == HoldExpired(**fields("r-1", expires_at=PAST))

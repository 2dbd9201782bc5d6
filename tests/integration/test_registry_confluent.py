"""confluent-kafka's own clients, unchanged, against the registry over a real ``_schemas`` topic."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    SchemaRegistryError,
    record_subject_name_strategy,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.catalogue import contracts
from schemas.codec import Codec
from schemas.registry import RegistryClient
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.gateway.registry import registry_app
from streams.gateway.registry_log import RegistryLog
from streams.gateway.registry_store import RegistryStore
from tests.unit.registry_memory import anyone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streams.settings import Settings

CONTRACTS = {contract.name: contract for contract in contracts()}
CONFIRMED = CONTRACTS["reservation.confirmed"]
MOMENT = datetime(2026, 11, 24, 10, 30, 0, 123000, tzinfo=UTC)
FIELDS: dict[str, Any] = {
    "reservation_id": "r-1",
    "resource_id": "room-7",
    "customer_email": "bold@example.com",
    "customer_name": "Болд",
    "starts_at": MOMENT,
    "ends_at": MOMENT,
    "quantity": 2,
}


@pytest.fixture
async def topic(create_topics: Callable[..., Awaitable[None]], unique: Callable[[str], str]) -> str:
    name = unique("schemas")
    await create_topics(name, partitions=1, configs={"cleanup.policy": "compact"})
    return name


@pytest.fixture
async def open_store(settings: Settings, topic: str) -> AsyncIterator[Callable[[], Awaitable[RegistryStore]]]:
    publishers: list[KafkaPublisher] = []

    async def open_store() -> RegistryStore:
        publishers.append(KafkaPublisher(client_options(settings)))
        await publishers[-1].start()
        return RegistryStore(RegistryLog(publishers[-1], KafkaLogReader(client_options(settings)), topic=topic))

    yield open_store
    for publisher in publishers:
        await publisher.stop()


@pytest.fixture
async def store(open_store: Callable[[], Awaitable[RegistryStore]]) -> RegistryStore:
    return await open_store()


@pytest.fixture
async def url(store: RegistryStore) -> AsyncIterator[str]:
    app = web.Application()
    app.add_subapp("/registry", registry_app(store, anyone))
    async with TestServer(app) as server:
        yield str(server.make_url("/registry"))


@pytest.fixture
def confluent(url: str) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": url, "max.retries": 0})


def in_thread(work: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    """Confluent's clients block; the server under test runs on this loop."""
    return asyncio.to_thread(work, *args)


STRATEGIES: dict[str, dict[str, Any]] = {
    "default": {},
    "record name": {"subject.name.strategy": record_subject_name_strategy},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_their_serializer_writes_what_our_codec_reads(
    confluent: SchemaRegistryClient, url: str, strategy: str
) -> None:
    serializer = AvroSerializer(confluent, CONFIRMED.newest, conf=STRATEGIES[strategy])
    context = SerializationContext("events.reservation", MessageField.VALUE)
    value = await in_thread(serializer, FIELDS, context)
    registry = RegistryClient(url)
    codec = Codec(registry, CONTRACTS.values())
    assert codec.decode_now(value) is None
    await codec.load(value)
    payload = codec.decode_now(value)
    assert payload is not None
    assert payload.contract == CONFIRMED
    assert payload.model == CONFIRMED.model(**FIELDS)
    subject = CONFIRMED.fullname if strategy == "record name" else "events.reservation-value"
    assert await in_thread(confluent.get_subjects) == [subject]
    await registry.close()


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_our_codec_writes_what_their_deserializer_reads(
    confluent: SchemaRegistryClient, store: RegistryStore, strategy: str
) -> None:
    value = await Codec(store, CONTRACTS.values()).encode(CONFIRMED, CONFIRMED.model(**FIELDS))
    deserializer = AvroDeserializer(confluent, conf=STRATEGIES[strategy])
    assert (
        await in_thread(deserializer, value, SerializationContext("events.reservation", MessageField.VALUE)) == FIELDS
    )
    reader = AvroDeserializer(confluent, CONFIRMED.newest)
    assert await in_thread(reader, value, SerializationContext("events.reservation", MessageField.VALUE)) == FIELDS


async def test_records_travel_through_kafka_from_their_producer_to_their_consumer(
    confluent: SchemaRegistryClient,
    kafka: str,
    create_topics: Callable[..., Awaitable[None]],
    unique: Callable[[str], str],
) -> None:
    events = unique("events")
    await create_topics(events, partitions=1)
    context = SerializationContext(events, MessageField.VALUE)
    value = await in_thread(AvroSerializer(confluent, CONFIRMED.newest), FIELDS, context)

    def there_and_back() -> bytes | None:
        producer = Producer({"bootstrap.servers": kafka})
        producer.produce(events, value, key="acme/r-1")
        producer.flush(10)
        consumer = Consumer({"bootstrap.servers": kafka, "group.id": unique("group"), "auto.offset.reset": "earliest"})
        consumer.subscribe([events])
        message = consumer.poll(20)
        consumer.close()
        return message.value() if message else None

    received = await in_thread(there_and_back)
    assert await in_thread(AvroDeserializer(confluent), received, context) == FIELDS


async def test_every_call_of_their_client_is_understood(confluent: SchemaRegistryClient) -> None:
    def calls() -> None:
        text, other = '{"type": "string"}', '"long"'
        first = confluent.register_schema("s", Schema(text, "AVRO"))
        assert confluent.register_schema("s", Schema(text, "AVRO"), normalize_schemas=True) == first
        assert confluent.lookup_schema("s", Schema(text, "AVRO")).version == 1
        assert json.loads(confluent.get_schema(first).schema_str) == json.loads(text)
        assert confluent.get_latest_version("s").schema_id == first
        assert confluent.get_version("s", 1).subject == "s"
        assert confluent.get_versions("s") == [1]
        assert confluent.get_compatibility() == "BACKWARD"
        assert not confluent.test_compatibility("s", Schema(other, "AVRO"))
        assert not confluent.test_compatibility_all_versions("s", Schema(other, "AVRO"))
        assert confluent.set_compatibility("s", "NONE")["compatibility"] == "NONE"
        assert confluent.get_compatibility("s") == "NONE"
        assert confluent.test_compatibility("s", Schema(other, "AVRO"))
        second = confluent.register_schema("s", Schema(other, "AVRO"))
        assert confluent.get_schema_types() == ["AVRO"]
        assert confluent.get_subjects_by_schema_id(second) == ["s"]
        assert [(use.subject, use.version) for use in confluent.get_schema_versions(second)] == [("s", 2)]
        assert confluent.get_referenced_by("s", 2) == []
        assert confluent.get_config("s").compatibility_level == "NONE"
        assert confluent.get_global_mode() == "READWRITE"
        assert confluent.delete_version("s", 2) == 2
        assert confluent.delete_version("s", 2, permanent=True) == 2
        assert confluent.delete_subject("s") == [1]
        assert confluent.delete_subject("s", permanent=True) == [1]
        assert confluent.get_subjects() == []

    await in_thread(calls)


async def test_refusals_reach_their_client_with_their_codes(confluent: SchemaRegistryClient) -> None:
    def code_of(work: Callable[[], Any]) -> tuple[int, int]:
        with pytest.raises(SchemaRegistryError) as caught:
            work()
        return caught.value.http_status_code, caught.value.error_code

    def calls() -> list[tuple[int, int]]:
        confluent.register_schema("s", Schema('"long"', "AVRO"))
        return [
            code_of(lambda: confluent.get_schema(99)),
            code_of(lambda: confluent.get_latest_version("nobody")),
            code_of(lambda: confluent.get_version("s", 9)),
            code_of(lambda: confluent.register_schema("s", Schema('"string"', "AVRO"))),
            code_of(lambda: confluent.register_schema("s", Schema('"nothing"', "AVRO"))),
            code_of(lambda: confluent.register_schema("s", Schema("{}", "JSON"))),
            code_of(lambda: confluent.set_compatibility("s", "SIDEWAYS")),
        ]

    expected = [(404, 40403), (404, 40401), (404, 40402), (409, 409), (422, 42201), (422, 42201), (422, 42203)]
    assert await in_thread(calls) == expected


async def test_a_restarted_registry_knows_everything(
    store: RegistryStore, open_store: Callable[[], Awaitable[RegistryStore]]
) -> None:
    ids = {contract.name: await store.register(contract.fullname, contract.newest) for contract in CONTRACTS.values()}
    await store.set_level(CONFIRMED.fullname, "FULL_TRANSITIVE")
    await store.delete_subject(CONTRACTS["job.status"].fullname, permanent=False)
    restarted = await open_store()
    for contract in CONTRACTS.values():
        assert json.loads(await restarted.schema(ids[contract.name])) == json.loads(contract.newest)
    assert await restarted.level(CONFIRMED.fullname) == "FULL_TRANSITIVE"
    state = await restarted.read()
    assert [version.deleted for version in state.versions("keylane.job.Status", deleted=True)] == [True]
    assert await restarted.register("another", '"long"') == max(ids.values()) + 1


async def test_two_registries_registering_at_once_agree_on_every_id(
    open_store: Callable[[], Awaitable[RegistryStore]],
) -> None:
    stores = [await open_store(), await open_store()]
    await stores[0].set_level(None, "NONE")
    wishes = [
        (store, f"s{n % 2}", f'{{"type": "fixed", "name": "F", "size": {n}}}') for n in range(1, 6) for store in stores
    ]
    ids = await asyncio.gather(*(store.register(subject, text) for store, subject, text in wishes))
    assert ids[::2] == ids[1::2], "both got the same id for the same schema"
    assert len(set(ids)) == 5
    third = await open_store()
    for store, subject, text in wishes:
        assert await third.lookup(subject, text) == await store.lookup(subject, text)

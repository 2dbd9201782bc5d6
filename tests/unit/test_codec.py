from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest
from pydantic import BaseModel, ConfigDict

from schemas.catalogue import contracts
from schemas.codec import Codec
from schemas.contract import Contract, InvalidPayloadError
from schemas.errors import (
    RegistryUnavailableError,
    SchemaRefusedError,
    UndecodableError,
    UnknownContractError,
    UnknownSchemaError,
)

MOMENT = datetime(2026, 11, 24, 10, 30, 0, 123000, tzinfo=UTC)
CONTRACTS = {contract.name: contract for contract in contracts()}
HELD = CONTRACTS["reservation.held"]
FIELDS: dict[str, Any] = {
    "reservation_id": "r-1",
    "resource_id": "room-7",
    "customer_email": "bold@example.com",
    "customer_name": "Болд",
    "starts_at": MOMENT,
    "ends_at": MOMENT,
    "quantity": 2,
    "expires_at": MOMENT,
}


class Shelf:
    """A registry in memory that counts what it is asked; ``away`` makes it unreachable."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.asked = 0
        self.away = False

    async def register(self, _: str, schema: str) -> int:
        self._answer()
        if schema not in self.texts:
            self.texts.append(schema)
        return self.texts.index(schema) + 1

    async def lookup(self, subject: str, schema: str) -> int:
        return await self.register(subject, schema)

    async def schema(self, schema_id: int) -> str:
        self._answer()
        if not 0 < schema_id <= len(self.texts):
            raise UnknownSchemaError(f"no schema has the id {schema_id}")
        return self.texts[schema_id - 1]

    async def close(self) -> None:
        """Nothing is open."""

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise RegistryUnavailableError("no answer")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def codec(shelf: Shelf) -> Codec:
    return Codec(shelf, CONTRACTS.values())


def written(schema_id: int, schema: Any, fields: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, schema, fields)
    return b"\0" + schema_id.to_bytes(4) + stream.getvalue()


def altered(**changes: Any) -> dict[str, Any]:
    return {**json.loads(HELD.newest), **changes}


async def decoded(codec: Codec, value: bytes) -> Any:
    if codec.decode_now(value) is None:
        await codec.load(value)
    payload = codec.decode_now(value)
    assert payload is not None
    return payload


async def test_a_payload_comes_back_as_it_was(codec: Codec) -> None:
    model = HELD.model(**FIELDS)
    value = await codec.encode(HELD, model)
    assert value[:5] == b"\0\0\0\0\1"
    payload = await decoded(codec, value)
    assert (payload.contract, payload.model, payload.schema_id) == (HELD, model, 1)


async def test_decoding_asks_the_registry_once_per_schema(codec: Codec, shelf: Shelf) -> None:
    value = await codec.encode(HELD, HELD.model(**FIELDS))
    await codec.encode(HELD, HELD.model(**FIELDS))
    assert codec.decode_now(value) is None
    await codec.load(value)
    await codec.load(value)
    assert codec.decode_now(value) is not None
    assert shelf.asked == 2


async def test_a_registry_that_is_away_is_no_fault_of_the_record(codec: Codec, shelf: Shelf) -> None:
    value = await codec.encode(HELD, HELD.model(**FIELDS))
    shelf.away = True
    with pytest.raises(RegistryUnavailableError):
        await codec.load(value)
    assert codec.decode_now(value) is None
    shelf.away = False
    await codec.load(value)
    assert codec.decode_now(value) is not None


async def test_a_thousand_records_of_a_new_schema_ask_the_registry_once(codec: Codec, shelf: Shelf) -> None:
    values = await asyncio.gather(*(codec.encode(HELD, HELD.model(**FIELDS)) for _ in range(1000)))
    assert shelf.asked == 1
    await asyncio.gather(*(codec.load(value) for value in values))
    assert shelf.asked == 2


async def test_who_gives_up_waiting_for_a_schema_takes_it_from_nobody(codec: Codec, shelf: Shelf) -> None:
    value = await codec.encode(HELD, HELD.model(**FIELDS))
    impatient, patient = asyncio.create_task(codec.load(value)), asyncio.create_task(codec.load(value))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert impatient.cancelled()
    assert codec.decode_now(value) is not None
    assert shelf.asked == 2


async def test_an_unknown_schema_id_is_final(codec: Codec) -> None:
    with pytest.raises(UnknownSchemaError):
        await codec.load(b"\0\0\0\0\x63abc")


@pytest.mark.parametrize("value", [b"", b"\0\0\0\1", b"\1\0\0\0\1abc", b'{"reservation_id": "r-1"}'])
def test_bytes_in_another_format_are_refused(codec: Codec, value: bytes) -> None:
    with pytest.raises(UndecodableError, match="wire format"):
        codec.decode_now(value)


async def test_the_byte_cap_holds_both_ways(shelf: Shelf) -> None:
    codec = Codec(shelf, CONTRACTS.values(), max_bytes=60)
    with pytest.raises(ValueError, match="more than the 60 allowed"):
        await codec.encode(HELD, HELD.model(**FIELDS | {"customer_name": "x" * 60}))
    with pytest.raises(UndecodableError, match="more than the 60 allowed"):
        codec.decode_now(bytes(61))


async def test_trailing_bytes_are_refused_though_the_schema_is_flat(codec: Codec) -> None:
    value = await codec.encode(HELD, HELD.model(**FIELDS))
    with pytest.raises(UndecodableError, match="1 bytes too many"):
        await decoded(codec, value + b"\0")


async def test_a_truncated_value_is_refused_at_every_length(codec: Codec) -> None:
    cancelled = CONTRACTS["reservation.cancelled"]
    model = cancelled.model(**{k: v for k, v in FIELDS.items() if k != "expires_at"}, reason="late")
    value = await codec.encode(cancelled, model)
    await codec.load(value)
    for length in range(5, len(value)):
        with pytest.raises(UndecodableError):
            codec.decode_now(value[:length])


async def test_a_foreign_writer_may_order_and_add_fields(codec: Codec, shelf: Shelf) -> None:
    fields = json.loads(HELD.newest)["fields"]
    schema = altered(fields=[{"name": "extra", "type": ["null", "long"]}, *reversed(fields)])
    shelf.texts.append(json.dumps(schema))
    payload = await decoded(codec, written(1, schema, {**FIELDS, "extra": 7}))
    assert payload.model == HELD.model(**FIELDS)


async def test_an_older_writer_gets_the_defaults_of_the_newest_schema(codec: Codec, shelf: Shelf) -> None:
    signin = CONTRACTS["notification.signin"]
    schema = json.loads(signin.newest)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "locale"]
    shelf.texts.append(json.dumps(schema))
    names = {field["name"]: field["name"] for field in schema["fields"]}
    value = written(1, schema, {**names, "email": "a@b.mn", "timestamp": MOMENT})
    assert (await decoded(codec, value)).model.locale == "mn"


async def test_a_schema_that_cannot_be_read_is_refused_each_time_but_fetched_once(codec: Codec, shelf: Shelf) -> None:
    schema = altered(fields=[{"name": "reservation_id", "type": "string"}])
    shelf.texts.append(json.dumps(schema))
    value = written(1, schema, {"reservation_id": "r"})
    await codec.load(value)
    for _ in range(2):
        with pytest.raises(UndecodableError, match=r"schema 1 cannot be read as reservation\.held: .*customer_email"):
            codec.decode_now(value)
        await codec.load(value)
    assert shelf.asked == 1


async def test_a_record_of_nobody_names_its_type(codec: Codec, shelf: Shelf) -> None:
    shelf.texts.append('{"type": "record", "name": "Sold", "namespace": "shop", "fields": []}')
    await codec.load(b"\0\0\0\0\1")
    with pytest.raises(UnknownContractError, match=r"shop\.Sold") as caught:
        codec.decode_now(b"\0\0\0\0\1")
    assert caught.value.fullname == "shop.Sold"


async def test_a_value_the_model_refuses_is_named_by_place_and_not_repeated(codec: Codec, shelf: Shelf) -> None:
    schema = json.loads(HELD.newest)
    shelf.texts.append(HELD.newest)
    value = written(1, schema, {**FIELDS, "customer_email": "secret-but-no-address"})
    with pytest.raises(UndecodableError, match="/customer_email") as caught:
        await decoded(codec, value)
    assert "secret" not in str(caught.value)


async def test_text_that_is_not_utf8_is_not_repeated_in_the_error(codec: Codec) -> None:
    value = await codec.encode(HELD, HELD.model(**FIELDS))
    with pytest.raises(UndecodableError) as caught:
        await decoded(codec, value.replace("Болд".encode(), b"\xffsecret\xff"))
    assert "secret" not in str(caught.value)


async def test_a_model_its_schema_cannot_carry_is_a_value_error(shelf: Shelf) -> None:
    class Wide(BaseModel):
        model_config = ConfigDict(strict=True)
        n: Any

    text = '{"type": "record", "name": "Wide", "fields": [{"name": "n", "type": "int"}]}'
    contract = Contract(name="wide", kind="event", model=Wide, schemas=(text,))
    codec = Codec(shelf, [contract])
    for bad in ("text", None, 2**70):
        with pytest.raises(ValueError, match="wide"):
            await codec.encode(contract, Wide(n=bad))


def test_a_contract_with_a_broken_schema_is_refused_at_the_start(shelf: Shelf) -> None:
    with pytest.raises(SchemaRefusedError, match="not JSON"):
        Codec(shelf, [Contract(name="x", kind="event", model=BaseModel, schemas=("{",))])


def test_json_input_is_refused_with_a_pointer_to_every_place() -> None:
    sent = {name: str(value) for name, value in FIELDS.items()} | {"customer_email": "nobody", "tenant_id": "t"}
    with pytest.raises(InvalidPayloadError) as caught:
        HELD.from_value(sent)
    assert {problem.pointer for problem in caught.value.problems} == {"/customer_email", "/quantity", "/tenant_id"}
    assert "nobody" not in str(caught.value)


def test_json_date_times_are_kept_in_utc_and_milliseconds() -> None:
    sent = FIELDS | dict.fromkeys(("starts_at", "ends_at", "expires_at"), "2026-11-24T18:30:00.123999+08:00")
    assert HELD.from_value(sent) == HELD.model(**FIELDS)
    assert HELD.from_json(json.dumps(sent)) == HELD.model(**FIELDS)


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-24T18:30:00",
        "yesterday",
        "",
        1732444200,
        1.5,
        None,
        "0001-01-01T00:00:00+08:00",
        "9999-12-31T23:59:59-08:00",
    ],
)
def test_a_date_time_without_offset_or_out_of_range_is_refused(moment: Any) -> None:
    sent = {name: str(value) for name, value in FIELDS.items()} | {"quantity": 1, "expires_at": moment}
    with pytest.raises(InvalidPayloadError) as caught:
        HELD.from_value(sent)
    assert [problem.pointer for problem in caught.value.problems] == ["/expires_at"]


@pytest.mark.parametrize(
    "email",
    ["a@b", "a b@c.mn", "a@b.mn\r\nBcc: x@y.mn", "<a@b.mn>", "a@b.mn,c@d.mn", "@b.mn", "a@@b.mn", "a@b.mn\n", ""],
)
def test_an_address_of_several_or_with_line_breaks_is_refused(email: str) -> None:
    with pytest.raises(InvalidPayloadError, match="/customer_email"):
        HELD.from_value({name: str(value) for name, value in FIELDS.items()} | {"quantity": 1, "customer_email": email})


def test_a_reservation_does_not_end_before_it_starts() -> None:
    with pytest.raises(ValueError, match="must not be before"):
        HELD.model(**FIELDS | {"ends_at": datetime(2020, 1, 1, tzinfo=UTC)})

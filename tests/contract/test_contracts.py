"""Every contract: sound, the same after a round trip through Avro, and its old bytes stay readable."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.avsc import parse
from schemas.catalogue import contracts
from schemas.check import check
from schemas.codec import Codec

if TYPE_CHECKING:
    from pydantic import BaseModel

    from schemas.contract import Contract

CONTRACTS = {contract.name: contract for contract in contracts()}
every_contract = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)


class Versions:
    """A registry that knows all versions of one contract by number."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    async def register(self, _: str, schema: str) -> int:
        return self.contract.schemas.index(schema) + 1

    async def lookup(self, subject: str, schema: str) -> int:
        return await self.register(subject, schema)

    async def schema(self, schema_id: int) -> str:
        return self.contract.schemas[schema_id - 1]

    async def close(self) -> None:
        """Nothing is open."""


async def decoded(contract: Contract, value: bytes) -> BaseModel:
    codec = Codec(Versions(contract), [contract])
    await codec.load(value)
    payload = codec.decode_now(value)
    assert payload is not None
    return payload.model


def json_values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a model takes, by its own JSON schema."""
    if "anyOf" in schema:
        return st.one_of([json_values(choice) for choice in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "null":
            return st.none()
        case "integer":
            high = schema.get("maximum", schema.get("exclusiveMaximum", 0) - 1)
            return st.integers(schema["minimum"], high)
        case _:
            return texts(schema)


def texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    if schema.get("format") == "date-time":
        return st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)).map(datetime.isoformat)  # noqa: DTZ001
    low, high = schema.get("minLength", 0), schema.get("maxLength", 100)
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True).filter(lambda text: low <= len(text) <= high)
    return st.text(min_size=low, max_size=high)


@st.composite
def payloads(draw: st.DrawFn, contract: Contract) -> BaseModel:
    schema = contract.model.model_json_schema()
    value = {
        name: draw(json_values(field))
        for name, field in schema["properties"].items()
        if name in schema["required"] or draw(st.booleans())
    }
    if value.get("starts_at", "") > value.get("ends_at", ""):
        value["starts_at"], value["ends_at"] = value["ends_at"], value["starts_at"]
    try:
        return contract.model.model_validate_json(json.dumps(value))
    except ValidationError:
        assume(condition=False)
        raise


@every_contract
def test_model_and_schemas_agree(contract: Contract) -> None:
    assert check(contract) == ()


@every_contract
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
async def test_a_payload_is_the_same_after_avro(contract: Contract, data: st.DataObject) -> None:
    model = data.draw(payloads(contract))
    value = await Codec(Versions(contract), [contract]).encode(contract, model)
    assert await decoded(contract, value) == model
    assert contract.from_json(model.model_dump_json()) == model


@every_contract
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_every_version_reads_what_every_other_wrote(contract: Contract, data: st.DataObject) -> None:
    model = data.draw(payloads(contract))
    newest = parse(contract.newest).schema
    for text in contract.schemas:
        other, first, second = parse(text).schema, io.BytesIO(), io.BytesIO()
        fastavro.schemaless_writer(first, newest, model.model_dump())
        older = fastavro.schemaless_reader(io.BytesIO(first.getvalue()), newest, other)
        fastavro.schemaless_writer(second, other, older)
        contract.model.model_validate(fastavro.schemaless_reader(io.BytesIO(second.getvalue()), other, newest))


GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


@every_contract
async def test_bytes_written_with_the_first_version_stay_readable(contract: Contract) -> None:
    assert contract.name in GOLDEN, "a new contract needs a payload and its v1 bytes in golden.json"
    golden = GOLDEN[contract.name]
    value = b"\0\0\0\0\1" + bytes.fromhex(golden["v1"])
    assert await decoded(contract, value) == contract.from_value(golden["payload"])

from __future__ import annotations

import io
import json
import struct
from itertools import count
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.avsc import parse
from schemas.errors import UndecodableError
from schemas.flat import flat
from schemas.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.avsc import Parsed

QUICK = settings(max_examples=150)
PREFIX = b"\0\0\0\0\1"
LOGICAL = {
    "long": ["timestamp-millis", "timestamp-micros", "local-timestamp-millis", "time-micros", "unheard-of"],
    "int": ["date", "time-millis", "timestamp-millis"],
    "string": ["uuid"],
}
PLAIN = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
YEAR_1, YEAR_10000 = -62_135_596_800_000, 253_402_300_800_000


def types(depth: int = 2) -> st.SearchStrategy[Any]:
    """Types by Avro kind; names are given afterwards."""
    scalars = st.sampled_from([*PLAIN, *({"type": k, "logicalType": each} for k in LOGICAL for each in LOGICAL[k])])
    enums = st.builds(lambda n: {"type": "enum", "symbols": [f"S{i}" for i in range(n)]}, st.sampled_from([1, 3, 70]))
    fixed = st.builds(lambda n: {"type": "fixed", "size": n}, st.sampled_from([0, 1, 5]))
    leaf = scalars | enums | fixed
    unions = st.lists(leaf, min_size=1, max_size=5, unique_by=kind)
    wide = st.just([{"type": "fixed", "size": 1}] * 66)
    if depth == 0:
        return leaf | unions
    inner = types(depth - 1)
    records = st.lists(inner, max_size=4).map(lambda of: {"type": "record", "of": of})
    return leaf | unions | wide | records | st.tuples(records, st.just("null")).map(list)


def kind(schema: Any) -> str:
    return "union" if isinstance(schema, list) else schema if isinstance(schema, str) else schema["type"]


def named(schema: Any, names: Iterator[int]) -> Any:
    if isinstance(schema, list):
        return [named(branch, names) for branch in schema]
    if kind(schema) == "record":
        fields = [{"name": f"f{i}", "type": named(each, names)} for i, each in enumerate(schema["of"])]
        return {"type": "record", "name": f"N{next(names)}", "fields": fields}
    return {**schema, "name": f"N{next(names)}"} if kind(schema) in ("enum", "fixed") else schema


def number(value: int, padding: int = 0) -> bytes:
    """Zigzag and seven bits a byte, with needless zero bits at the end."""
    rest, groups = (value << 1) ^ (value >> 63), []
    while rest or not groups:
        groups.append(rest & 0x7F)
        rest >>= 7
    groups += [0] * padding
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def numbers(bits: int) -> st.SearchStrategy[bytes]:
    edges = st.sampled_from([YEAR_1, YEAR_1 - 1, YEAR_10000 - 1, YEAR_10000, YEAR_1 * 1000, YEAR_10000 * 1000])
    values = st.integers(-70, 70) | st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    values = values | st.integers(0, 2**42) | edges if bits == 64 else values
    return st.builds(number, values, st.sampled_from([0] * 20 + [1, 2, 9]))


def sized(data: bytes) -> bytes:
    return number(len(data)) + data


ENCODED = {
    "null": st.just(b""),
    "boolean": st.sampled_from([b"\0", b"\1"]),
    "int": numbers(32),
    "long": numbers(64),
    "float": st.floats(width=32).map(lambda value: struct.pack("<f", value)),
    "double": st.floats().map(lambda value: struct.pack("<d", value)),
    "bytes": st.binary(max_size=80).map(sized),
    "string": (st.text(max_size=80) | st.uuids().map(str)).map(lambda text: sized(text.encode())),
}


def encoded(schema: Any, draw: st.DrawFn) -> bytes:
    match kind(schema):
        case "union":
            index = draw(st.integers(0, len(schema) - 1))
            return number(index) + encoded(schema[index], draw)
        case "record":
            return b"".join(encoded(each["type"], draw) for each in schema["fields"])
        case "enum":
            return number(draw(st.integers(0, len(schema["symbols"]) - 1)))
        case "fixed":
            return draw(st.binary(min_size=schema["size"], max_size=schema["size"]))
        case other:
            return draw(ENCODED[other])


@st.composite
def encodings(draw: st.DrawFn) -> tuple[Parsed, bytes]:
    schema = named({"type": "record", "of": draw(st.lists(types(), max_size=6))}, count())
    return parse(json.dumps(schema)), PREFIX + encoded(schema, draw)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Parsed, bytes]:
    schema, sound = draw(encodings())
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(len(PREFIX), len(data)))
        cut = draw(st.integers(0, 3))
        data[at : at + cut] = draw(st.binary(max_size=3) | st.sampled_from([b"\xff" * 9 + b"\1", b"\x80" * 10]))
    return schema, bytes(data)


def by_fastavro(schema: Parsed, data: bytes) -> str:
    """The value in Python's notation, which shows types and time zones, or that it is refused."""
    try:
        Guard(schema, start=len(PREFIX)).check(data)
        stream = io.BytesIO(data[len(PREFIX) :])
        return repr(fastavro.schemaless_reader(stream, schema.schema, None))
    except Exception:  # noqa: BLE001 - fastavro raises nearly anything
        return "refused"


def by_us(schema: Parsed, data: bytes) -> str:
    decode = flat(schema, start=len(PREFIX))
    assert decode is not None
    try:
        return repr(decode(data))
    except (UndecodableError, ValueError, OverflowError):
        return "refused"


@QUICK
@given(encodings())
def test_a_flat_record_comes_out_as_fastavro_decodes_it(encoding: tuple[Parsed, bytes]) -> None:
    assert by_us(*encoding) == by_fastavro(*encoding)


@QUICK
@given(damaged())
def test_damaged_bytes_are_refused_or_decoded_as_guard_and_fastavro_do(encoding: tuple[Parsed, bytes]) -> None:
    assert by_us(*encoding) == by_fastavro(*encoding)


@QUICK
@given(encodings(), st.binary(min_size=1, max_size=3))
def test_what_ends_early_or_late_is_refused(encoding: tuple[Parsed, bytes], more: bytes) -> None:
    schema, data = encoding
    assert by_us(schema, data + more) == "refused"
    for end in range(len(PREFIX), len(data)):
        assert by_us(schema, data[:end]) == "refused"


def record(*types: Any) -> Parsed:
    fields = [{"name": f"f{i}", "type": each} for i, each in enumerate(types)]
    return parse(json.dumps({"type": "record", "name": "R", "fields": fields}))


@pytest.mark.parametrize("unit", ["millis", "micros"])
@pytest.mark.parametrize(
    "number_", [0, -1, 1_767_225_600_123, YEAR_1, YEAR_1 - 1, YEAR_10000 - 1, YEAR_10000, 2**63 - 1]
)
def test_a_moment_is_exact_to_both_ends_of_the_calendar(unit: str, number_: int) -> None:
    scale = 1000 if unit == "micros" and abs(number_) < 2**50 else 1
    schema = record({"type": "long", "logicalType": f"timestamp-{unit}"})
    data = PREFIX + number(number_ * scale)
    assert by_us(schema, data) == by_fastavro(schema, data)


@pytest.mark.parametrize(
    ("of", "data", "value"),
    [
        ("int", b"\xfe\xff\xff\xff\x0f", 2**31 - 1),
        ("int", b"\xff\xff\xff\xff\x0f", -(2**31)),
        ("int", b"\x80\x80\x80\x80\x10", None),
        ("int", b"\x82" + b"\x80" * 8 + b"\x00", 1),
        ("long", b"\xfe" + b"\xff" * 8 + b"\x01", 2**63 - 1),
        ("long", b"\xff" * 9 + b"\x01", -(2**63)),
        ("long", b"\x80" * 9 + b"\x02", None),
        ("long", b"\x80" * 10 + b"\x00", None),
        ("long", b"\x7f", -64),
        ("long", b"\x80\x01", 64),
    ],
)
def test_a_number_is_as_large_as_its_type_allows(of: str, data: bytes, value: int | None) -> None:
    assert by_us(record(of), PREFIX + data) == ("refused" if value is None else repr({"f0": value}))


@pytest.mark.parametrize(
    "of",
    [
        {"type": "array", "items": "long"},
        {"type": "map", "values": "long"},
        ["null", {"type": "array", "items": "long"}],
        {"type": "bytes", "logicalType": "decimal", "precision": 9},
        {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": {"type": "map", "values": "int"}}]},
    ],
)
def test_what_holds_arrays_maps_or_decimals_is_not_flat(of: Any) -> None:
    assert flat(record("string", of)) is None


def test_a_named_type_may_be_used_again() -> None:
    schema = record({"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}, ["null", "Color"], "Color")
    decode = flat(schema)
    assert decode is not None
    assert decode(b"\x02\x02\x00\x02") == {"f0": "BLUE", "f1": "RED", "f2": "BLUE"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the bytes end too early"),
        (b"\x08ab", "the bytes end too early"),
        (b"\x00\x80", "the bytes end too early"),
        (b"\x00\x02\x00", "the bytes end too early"),
        (b"\x01", "a length is negative"),
        (b"\x00" + b"\x80" * 10, "a number has too many bytes"),
        (b"\x00\x00\x03", "a union has 2 branches, not index -2"),
        (b"\x00\x00\x02\x02", "a boolean is neither 0 nor 1"),
        (b"\x00\x00\x00\x04", "an enum has 2 symbols, not index 2"),
        (b"\x00\x00\x00\x00abc", "the bytes end too early"),
        (b"\x00\x00\x00\x00abcd.", "1 bytes too many"),
    ],
)
def test_a_refusal_says_what_is_wrong(data: bytes, reason: str) -> None:
    enum = {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}
    decode = flat(record("string", "long", ["null", "boolean"], enum, "float"))
    assert decode is not None
    with pytest.raises(UndecodableError, match=reason):
        decode(data)

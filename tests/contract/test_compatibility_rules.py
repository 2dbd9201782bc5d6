"""Avro's resolution rules as the checker knows them, and fastavro reading what the checker lets through."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.avsc import parse
from schemas.compatibility import LEVELS, incompatibilities, violations

PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
PROMOTIONS = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
    ("float", "double"),
    ("string", "bytes"),
    ("bytes", "string"),
}
SAMPLES = {
    "null": None,
    "boolean": True,
    "int": 7,
    "long": 2**40,
    "float": 0.5,
    "double": 0.25,
    "bytes": b"x",
    "string": "x",
}


def record(*fields: dict[str, Any], name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def enum(*symbols: str, name: str = "E", **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def can_read(reader: Any, writer: Any) -> bool:
    return not incompatibilities(reader=parse(json.dumps(reader)), writer=parse(json.dumps(writer)))


def resolved(reader: Any, writer: Any, value: Any) -> Any:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(writer), value)
    stream.seek(0)
    return fastavro.schemaless_reader(stream, fastavro.parse_schema(writer), fastavro.parse_schema(reader))


@pytest.mark.parametrize("writer", PRIMITIVES)
@pytest.mark.parametrize("reader", PRIMITIVES)
def test_primitives_are_promoted_as_the_specification_says(reader: str, writer: str) -> None:
    allowed = reader == writer or (writer, reader) in PROMOTIONS
    assert can_read(reader, writer) == allowed
    assert can_read({"type": "array", "items": reader}, {"type": "array", "items": writer}) == allowed
    assert can_read({"type": "map", "values": reader}, {"type": "map", "values": writer}) == allowed
    assert can_read([reader], writer) == allowed
    assert can_read(reader, [writer]) == allowed
    if allowed:
        resolved(reader, writer, SAMPLES[writer])


A, B = {"name": "a", "type": "int"}, {"name": "b", "type": "int"}
B_DEFAULT = {**B, "default": 3}


@pytest.mark.parametrize(
    ("reader", "writer", "allowed", "value", "expected"),
    [
        (record(A), record(A, B), True, {"a": 1, "b": 2}, {"a": 1}),
        (record(A, B), record(A), False, None, None),
        (record(A, B_DEFAULT), record(A), True, {"a": 1}, {"a": 1, "b": 3}),
        (record(B, A), record(A, B), True, {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        (record({"name": "c", "type": "int", "aliases": ["a"]}), record(A), True, {"a": 1}, {"c": 1}),
        (record(A, name="Other"), record(A), False, None, None),
        (record(A, name="Other", aliases=["R"]), record(A), True, {"a": 1}, {"a": 1}),
        (enum("X", "Y"), enum("X"), True, "X", "X"),
        (enum("X"), enum("X", "Y"), False, None, None),
        (enum("X", default="X"), enum("X", "Y"), True, "Y", "X"),
        (enum("X", name="F"), enum("X"), False, None, None),
        (["null", "int"], "int", True, 1, 1),
        ("int", ["null", "int"], False, None, None),
        (["null", "int"], ["int", "null"], True, 1, 1),
        (["null", "int"], ["null", "string"], False, None, None),
        (["null", "long"], ["null", "int"], True, 1, 1),
        (["null", "int"], ["null", "long"], False, None, None),
        (["null", "int", "string"], ["null", "string"], True, "x", "x"),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 2}, True, b"ab", b"ab"),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 3}, False, None, None),
        ({"type": "array", "items": "int"}, {"type": "map", "values": "int"}, False, None, None),
        ("string", enum("X"), False, None, None),
    ],
)
def test_named_types_unions_and_defaults(reader: Any, writer: Any, allowed: bool, value: Any, expected: Any) -> None:
    assert can_read(reader, writer) == allowed
    if allowed:
        assert resolved(reader, writer, value) == expected


KINDS = st.recursive(
    st.sampled_from([*PRIMITIVES, "X", "XY"]),
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda values: {"type": "map", "values": values}, inner),
        inner.filter(lambda kind: kind != "null" and not isinstance(kind, list)).map(lambda kind: ["null", kind]),
    ),
    max_leaves=3,
)


def spelled(kind: Any, name: str) -> Any:
    if isinstance(kind, list):
        return [spelled(branch, name) for branch in kind]
    if isinstance(kind, dict):
        return {key: kind[key] if key == "type" else spelled(kind[key], name) for key in kind}
    return {"X": enum("X", name=name), "XY": enum("X", "Y", name=name)}.get(kind, kind)


def sample(kind: Any) -> Any:
    if isinstance(kind, list):
        return sample(kind[-1])
    if isinstance(kind, dict):
        return [sample(kind["items"])] if kind["type"] == "array" else {"k": sample(kind["values"])}
    return {"X": "X", "XY": "Y"}.get(kind, SAMPLES.get(kind))


@settings(max_examples=300)
@given(KINDS, KINDS)
def test_fastavro_reads_whatever_the_checker_lets_through(reader: Any, writer: Any) -> None:
    read, written = ({**record({"name": "v", "type": spelled(kind, "E")})} for kind in (reader, writer))
    if can_read(read, written):
        resolved(read, written, {"v": sample(writer)})


def test_every_level_is_known_and_none_allows_everything() -> None:
    assert len(LEVELS) == 7
    other = parse('"string"')
    for level in LEVELS:
        assert bool(violations(level, other, [parse('"int"')])) == (level != "NONE")
        assert violations(level, other, []) == ()

from __future__ import annotations

import io
import json
from itertools import count
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from schemas.avsc import normal_form, parse
from schemas.codec import Codec
from schemas.contract import Contract
from schemas.errors import SchemaRefusedError, UndecodableError
from schemas.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=200),
    "string": st.text(max_size=200),
}
QUICK = settings(max_examples=150)


def types(depth: int = 3) -> st.SearchStrategy[Any]:
    """Schemas; names are made unique afterwards."""
    leaf = st.sampled_from([*PRIMITIVES, "ENUM", "FIXED"])
    if depth == 0:
        return leaf
    inner = types(depth - 1)
    return st.one_of(
        leaf,
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda values: {"type": "map", "values": values}, inner),
        st.lists(inner, max_size=4).map(lambda fields: {"type": "record", "of": fields}),
        # Branches that can be told apart by their Python type.
        st.lists(st.sampled_from(["null", "boolean", "string", "bytes", "long"]), min_size=1, max_size=4, unique=True),
    )


def named(schema: Any, names: Callable[[], str]) -> Any:
    if isinstance(schema, list):
        return schema
    if schema == "ENUM":
        return {"type": "enum", "name": names(), "symbols": ["A", "B", "C"]}
    if schema == "FIXED":
        return {"type": "fixed", "name": names(), "size": 3}
    if isinstance(schema, str):
        return schema
    if schema["type"] == "record":
        fields = [{"name": f"f{i}", "type": named(each, names)} for i, each in enumerate(schema["of"])]
        return {"type": "record", "name": names(), "fields": fields}
    inside = "items" if schema["type"] == "array" else "values"
    return {"type": schema["type"], inside: named(schema[inside], names)}


def values(schema: Any) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        return st.one_of([values(branch) for branch in schema])
    if isinstance(schema, str):
        return PRIMITIVES[schema]
    return OF_TYPE[schema["type"]](schema)


OF_TYPE: dict[str, Callable[[Any], st.SearchStrategy[Any]]] = {
    "enum": lambda schema: st.sampled_from(schema["symbols"]),
    "fixed": lambda schema: st.binary(min_size=schema["size"], max_size=schema["size"]),
    "array": lambda schema: st.lists(values(schema["items"]), max_size=5),
    "map": lambda schema: st.dictionaries(st.text(max_size=5), values(schema["values"]), max_size=5),
    "record": lambda schema: st.fixed_dictionaries({each["name"]: values(each["type"]) for each in schema["fields"]}),
}


@st.composite
def encodings(draw: st.DrawFn) -> tuple[str, Any, bytes]:
    numbers = count()
    schema = named(draw(types()), lambda: f"N{next(numbers)}")
    value = draw(values(schema))
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return json.dumps(schema), value, stream.getvalue()


def decoded(text: str, data: bytes) -> tuple[Any, int]:
    stream = io.BytesIO(data)
    return fastavro.schemaless_reader(stream, parse(text).schema, None), stream.tell()


@QUICK
@given(encodings())
def test_every_valid_encoding_passes_the_guard_and_comes_back(encoding: tuple[str, Any, bytes]) -> None:
    text, value, data = encoding
    Guard(parse(text)).check(data)
    assert decoded(text, data) == (value, len(data))


@QUICK
@given(encodings(), st.binary(min_size=1, max_size=3))
def test_what_ends_early_or_late_never_passes_the_guard(encoding: tuple[str, Any, bytes], more: bytes) -> None:
    text, _, data = encoding
    guard = Guard(parse(text))
    for wrong in (data[:-1], data + more):
        if wrong != data:
            with pytest.raises(UndecodableError):
                guard.check(wrong)


@QUICK
@given(encodings(), st.data())
def test_whatever_passes_the_guard_can_be_decoded_to_its_end(
    encoding: tuple[str, Any, bytes], data: st.DataObject
) -> None:
    text, _, sound = encoding
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(0, 3)) if sound else 0):
        changed[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    try:
        Guard(parse(text)).check(bytes(changed))
    except UndecodableError:
        return
    try:
        _, end = decoded(text, bytes(changed))
    except UnicodeDecodeError:
        return
    assert end == len(sound)


@QUICK
@given(st.one_of(encodings(), st.tuples(st.just("{"), st.none(), st.binary())), st.binary(max_size=60))
async def test_the_codec_raises_nothing_but_undecodable(encoding: tuple[str, Any, bytes], noise: bytes) -> None:
    text, _, sound = encoding
    record = '{"type": "record", "name": "Top", "fields": [{"name": "v", "type": %s}]}'

    class Registry:
        async def schema(self, _: int) -> str:
            return record % text

        async def register(self, *_: str) -> int:
            return 1

        lookup = register

        async def close(self) -> None:
            """Nothing is open."""

    class Top(BaseModel):
        v: Any = None

    newest = record % ('"null"' if text == "{" else text)
    codec = Codec(Registry(), [Contract(name="top", kind="event", model=Top, schemas=(newest,))])
    await codec.load(b"\0\0\0\0\1")
    for value in (noise, b"\0\0\0\0\1" + noise, b"\0\0\0\0\1" + sound[:-1] + noise, b"\0\0\0\0\1" + sound):
        try:
            codec.decode_now(value)
        except UndecodableError:
            continue


@QUICK
@given(encodings())
def test_the_normal_form_is_the_same_schema_and_normal(encoding: tuple[str, Any, bytes]) -> None:
    text, value, data = encoding
    form = normal_form(parse(text))
    assert normal_form(parse(form)) == form
    assert decoded(form, data)[0] == value


@QUICK
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "name",
                        "fields",
                        "items",
                        "values",
                        "symbols",
                        "size",
                        "logicalType",
                        "precision",
                        "namespace",
                        "default",
                        "aliases",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
    )
)
def test_nonsense_is_refused_as_a_schema_and_nothing_else(nonsense: Any) -> None:
    assume(not isinstance(nonsense, str))
    try:
        parse(json.dumps(nonsense))
    except SchemaRefusedError:
        return

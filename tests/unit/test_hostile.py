"""Every hostile value of a table is decoded in a process of its own with a memory limit, and measured there."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from pydantic import BaseModel

from schemas.avsc import parse
from schemas.codec import Codec
from schemas.contract import Contract
from schemas.errors import SchemaRefusedError, UndecodableError
from schemas.flat import flat

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1_048_576
SECONDS = 0.1
LONG_MAX, LONG_MIN = b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 9 + b"\x01"
FILL = MEGABYTE - 64


class Anything(BaseModel):
    v: Any = None


def record(of: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Hostile", "fields": [{"name": "v", "type": of, **more}]}


def linked() -> dict[str, Any]:
    return record(["null", "Hostile"])


def doubling(levels: int) -> dict[str, Any]:
    """Every record holds the next one twice."""
    inner: Any = {"type": "record", "name": f"R{levels}", "fields": []}
    for level in reversed(range(levels)):
        fields = [{"name": "a", "type": inner}, {"name": "b", "type": f"R{level + 1}"}]
        inner = {"type": "record", "name": f"R{level}", "fields": fields}
    return record(inner)


def nested(levels: int) -> dict[str, Any]:
    inner: Any = "null"
    for _ in range(levels):
        inner = {"type": "array", "items": inner}
    return record(inner)


def long(number: int) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, "long", number)
    return stream.getvalue()


NULLS, STRINGS = {"type": "array", "items": "null"}, {"type": "array", "items": "string"}
EMPTY = {"type": "record", "name": "Empty", "fields": []}
WIDE = {"type": "record", "name": "Wide", "fields": [{"name": f"f{i}", "type": "null"} for i in range(1000)]}
ENUM = {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 20}
HUGE_DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 10**8}

# name: (schema of v or of the whole record, bytes of the record)
HOSTILE: dict[str, tuple[Any, bytes]] = {
    "nothing at all": (record("string"), b""),
    "string longer than the rest": (record("string"), b"\x10ab"),
    "string of the largest length": (record("string"), LONG_MAX + b"ab"),
    "string of negative length": (record("string"), b"\x01"),
    "string of the most negative length": (record("string"), LONG_MIN),
    "string not in UTF-8": (record("string"), b"\x04\xff\xfe"),
    "bytes longer than the rest": (record("bytes"), LONG_MAX),
    "nullable string of negative length": (record(["null", "string"]), b"\x02" + LONG_MIN),
    "trailing bytes": (record("string"), b"\x02abc"),
    "trailing bytes behind a union": (record(["null", "string"]), b"\x00\x00"),
    "a number that does not end": (record("long"), b"\xff" * FILL),
    "an unfinished number": (record("long"), b"\x80"),
    "an int beyond 32 bits in a union": (record(["null", "int"]), b"\x02" + LONG_MAX),
    "a long beyond 64 bits in a union": (record(["null", "long"]), b"\x02" + b"\xff" * 9 + b"\x7f"),
    "an endless zero in a union": (record(["null", "long"]), b"\x02" + b"\x80" * FILL),
    "a boolean of 7": (record("boolean"), b"\x07"),
    "half a double": (record("double"), b"1234"),
    "half a fixed": (record({"type": "fixed", "name": "F", "size": 2**31}), b"1234"),
    "union index -1": (record(["null", "string"]), b"\x01\x02a"),
    "union index 2 of 2": (record(["null", "string"]), b"\x04\x02a"),
    "union index of the most negative": (record(["null", "string"]), LONG_MIN),
    "enum index -1": (record(ENUM), b"\x01"),
    "enum index 2 of 2": (record(ENUM), b"\x04"),
    "array of billions of nulls": (record(NULLS), long(2**40) + b"\x00"),
    "array of 50 million nulls": (record(NULLS), long(50_000_000) + b"\x00"),
    "array of nulls of the largest count": (record(NULLS), LONG_MAX + b"\x00"),
    "array of nulls of the most negative count": (record(NULLS), LONG_MIN + b"\x00\x00"),
    "array of nulls in many blocks": (record(NULLS), long(99_999) * 200_000),
    "array of empty records": (record({"type": "array", "items": EMPTY}), long(10**9) + b"\x00"),
    "array of wide records of nulls": (record({"type": "array", "items": WIDE}), long(99_999) + b"\x00"),
    "array of fixed of size 0": (
        record({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
        long(10**9) + b"\x00",
    ),
    "array of arrays of nulls": (
        record({"type": "array", "items": NULLS}),
        long(50_000) + (long(90_000) + b"\x00") * 50_000 + b"\x00",
    ),
    "array of strings longer than the rest": (record(STRINGS), long(2**31) + b"\x00"),
    "array of a million empty strings": (record(STRINGS), long(1_000_000) + b"\x00" * 1_000_001),
    "array of a million one-byte longs": (
        record({"type": "array", "items": "long"}),
        long(1_000_000) + b"\x02" * 1_000_000 + b"\x00",
    ),
    "array block with a wrong size": (record(STRINGS), b"\x01\x7e\x02a\x00"),
    "array that does not end": (record(STRINGS), b"\x02\x00" * (FILL // 2)),
    "map of billions of nulls": (record({"type": "map", "values": "null"}), long(2**40) + b"\x00"),
    "map of half a million keys": (
        record({"type": "map", "values": "null"}),
        long(500_000) + b"".join(b"\x02" + bytes([65 + i % 26]) for i in range(500_000)) + b"\x00",
    ),
    "decimal of a million digits": (record(DECIMAL), long(400_000) + b"\x7f" * 400_000),
    "decimal of a precision of millions": (record(HUGE_DECIMAL), long(1_000_000) + b"\x7f" * 1_000_000),
    "a date-time beyond the year 9999": (record({"type": "long", "logicalType": "timestamp-millis"}), LONG_MAX),
    "a date before the year 1": (record({"type": "int", "logicalType": "date"}), b"\xff\xff\xff\xff\x0f"),
    "a UUID that is none": (record({"type": "string", "logicalType": "uuid"}), b"\x06abc"),
    "more bytes than allowed": (record("string"), long(MEGABYTE) + b"a" * MEGABYTE),
    "a recursive schema": (linked(), b"\x02" * FILL + b"\x00"),
    "a recursive schema through an array": (
        record({"type": "array", "items": "Hostile"}),
        b"\x02" * (FILL // 2),
    ),
    "a schema of two to the thirtieth nodes": (doubling(30), b""),
    "a schema nested 40 arrays deep": (nested(40), b"\x02" * 40 + b"\x00" * 40),
    "a schema nested 20,000 arrays deep": ("deep", b"\x02" * 1000),
    "a schema that says it was parsed": (
        {**linked(), "__fastavro_parsed": True, "__named_schemas": {"Hostile": linked()}},
        b"\x02" * FILL + b"\x00",
    ),
    "a schema of 20,000 fields": (
        {"type": "record", "name": "R", "fields": [{"name": f"f{i}", "type": "int"} for i in range(20_000)]},
        b"\0",
    ),
    "a schema that is no JSON": ("none", b""),
    "a schema of the wrong types": ({"type": "record", "name": 7, "fields": {"v": []}}, b""),
}

# What is large but in order must pass, or the limits would prove nothing.
SOUND: dict[str, tuple[Any, bytes]] = {
    "90,000 nulls": (record(NULLS), long(90_000) + b"\x00"),
    "90,000 longs": (record({"type": "array", "items": "long"}), long(90_000) + b"\x02" * 90_000 + b"\x00"),
    "one long string": (record(["null", "string"]), b"\x02" + long(1_000_000) + b"a" * 1_000_000),
    "blocks with sizes": (record(STRINGS), b"\x03\x08\x02a\x02b\x00"),
}

# What the newest schema of the contract has that the writer's has not: one that differs is resolved by fastavro.
WAYS: dict[str, dict[str, str]] = {"as written": {}, "resolved": {"doc": "the same"}}


def text_of(schema: Any) -> str:
    if schema == "deep":
        return '{"type":"array","items":' * 20_000 + '"null"' + "}" * 20_000
    return "{" if schema == "none" else json.dumps(schema)


class OneSchema:
    def __init__(self, text: str) -> None:
        self.text = text

    async def schema(self, _: int) -> str:
        return self.text

    async def register(self, *_: str) -> int:
        return 1

    async def lookup(self, *_: str) -> int:
        return 1

    async def close(self) -> None:
        """Nothing is open."""


def decode(schema: Any, data: bytes, more: dict[str, str]) -> dict[str, Any]:
    """Load the schema, then decode with the clock running; in the process of the case."""
    newest = json.dumps({"type": "record", "name": "Hostile", "fields": []})
    text = text_of(schema)
    if isinstance(schema, dict) and "__fastavro_parsed" not in schema and schema["name"] == "Hostile":
        newest = json.dumps({**schema, **more}) if not _refused(text) else newest
    contract = Contract(name="hostile", kind="event", model=Anything, schemas=(newest,))
    codec, value = Codec(OneSchema(text), [contract]), b"\0\0\0\0\1" + data
    asyncio.run(codec.load(value))
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer, seconds = min((timed(codec, value) for _ in range(3)), key=itemgetter(1))  # a busy machine is no fault
    return {
        "answer": answer,
        "seconds": seconds,
        "flat": _is_flat(codec, value),
        "kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,
    }


def timed(codec: Codec, value: bytes) -> tuple[str, float]:
    begin = time.process_time()
    try:
        answer = "decoded" if codec.decode_now(value) else "schema missing"
    except UndecodableError as error:
        answer = f"refused: {error}"
    return answer, time.process_time() - begin


def _refused(text: str) -> bool:
    try:
        parse(text)
    except SchemaRefusedError:
        return True
    return False


def _is_flat(codec: Codec, value: bytes) -> bool:
    try:
        reader = codec.reader(value)
    except UndecodableError:
        return False
    return reader is not None and reader.decode.__module__ == flat.__module__


def in_a_fork(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run in a fork that may take 256 MB more than this process and no core dump; its death is an answer too."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        limit = _address_space() + 256 * MEGABYTE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(20)
        try:
            answer = work()
        except BaseException:  # noqa: BLE001 - whatever it was, the parent shall see it
            answer = {"answer": f"raised: {traceback.format_exc()}", "seconds": 0, "kilobytes": 0}
        os.write(write, json.dumps(answer).encode()[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if said else {"answer": f"died with status {status}", "seconds": 0, "kilobytes": 0}


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path.cwd(),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_is_refused_quickly_in_little_memory(
    name: str, way: str, outcomes: dict[str, dict[str, Any]]
) -> None:
    outcome = outcomes[f"{name}, {way}"]
    assert outcome["answer"].startswith("refused: "), outcome
    assert outcome["seconds"] < SECONDS
    assert outcome["kilobytes"] < 256 * 1024


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SOUND)
def test_a_large_but_sound_value_passes_as_quickly(name: str, way: str, outcomes: dict[str, dict[str, Any]]) -> None:
    outcome = outcomes[f"{name}, {way}"]
    assert outcome["answer"] == "decoded", outcome
    assert outcome["seconds"] < SECONDS


def test_many_of_the_values_are_of_flat_records(outcomes: dict[str, dict[str, Any]]) -> None:
    flat_ones = {name for name, outcome in outcomes.items() if outcome.get("flat")}
    assert {"an endless zero in a union, as written", "one long string, as written"} <= flat_ones
    assert len(flat_ones) > 20


if __name__ == "__main__":
    json.dump(
        {
            f"{name}, {way}": in_a_fork(lambda case=case, more=more: decode(*case, more))
            for name, case in (HOSTILE | SOUND).items()
            for way, more in WAYS.items()
        },
        sys.stdout,
    )

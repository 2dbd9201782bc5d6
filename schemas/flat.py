"""Decodes records without arrays, maps and decimals in one walk that checks as it builds: most payloads are such.

Invariant: it accepts the bytes that ``Guard`` and fastavro both accept, and makes of them what fastavro makes.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from fastavro.read import LOGICAL_READERS

from schemas.avsc import kind_of, kinds
from schemas.errors import UndecodableError
from schemas.guard import ENDS_EARLY, INT_MAX, choice, length, refuse_end, varint

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.avsc import Parsed

    # (bytes, position) -> (value, position behind it). As in the guard, positions only move forward: what ends too
    # early shows as an IndexError or as a last position beyond the end.
    Read = Callable[[bytes, int], tuple[Any, int]]
    # How a value is read without a call, and how in general; of a constant, the value itself.
    Step = tuple[int, Any]

_KINDS = {"record", "union", "enum", "fixed", "null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_TEXT, _NUMBER, _CONSTANT, _OTHER = range(4)
_SHORT_INDEXES = 64  # those of one byte
_SMALL = tuple((byte >> 1) ^ -(byte & 1) for byte in range(0x80))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def flat(schema: Parsed, *, start: int = 0) -> Callable[[bytes], dict[str, Any]] | None:
    """What decodes the schema's records, whose bytes begin at ``start``; None if the schema is not of this kind.

    The decoder raises UndecodableError where the guard does, and as fastavro does where a value is none of its type.
    """
    if kind_of(schema.schema) != "record" or not kinds(schema) <= _KINDS:
        return None
    record = _record(schema.schema, schema.named)

    def decode(data: bytes) -> dict[str, Any]:
        try:
            fields, end = record(data, start)
        except (IndexError, struct.error):
            raise UndecodableError(ENDS_EARLY) from None
        if end != len(data):
            refuse_end(data, end)
        return fields

    return decode


def _record(schema: Any, named: dict[str, Any]) -> Callable[[bytes, int], tuple[dict[str, Any], int]]:
    plan = tuple((each["name"], *_field(each["type"], named)) for each in schema["fields"])

    # Most values are short texts, small numbers or one of a few constants: those are read without a call.
    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        fields: dict[str, Any] = {}
        for name, kind, general, choices in plan:
            if choices is not None and (chosen := choices.get(data[at])) is not None:
                kind, general = chosen  # noqa: PLW2901 - it stands for the field
                at += 1
            if kind == _TEXT and not (byte := data[at]) & 0x81:
                begin = at + 1
                at = begin + (byte >> 1)
                fields[name] = data[begin:at].decode()
            elif kind == _NUMBER and not (byte := data[at]) & 0x80:
                at += 1
                fields[name] = _SMALL[byte]
            elif kind == _CONSTANT:
                fields[name] = general
            else:
                fields[name], at = general(data, at)
        return fields, at

    return read


def _field(schema: Any, named: dict[str, Any]) -> tuple[int, Any, dict[int, Step] | None]:
    # A step, and what steps the first byte chooses where it is an index or a boolean.
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    kind = kind_of(schema)
    match kind:
        case "null":
            return _CONSTANT, None, None
        case "boolean":
            return _OTHER, _boolean, {0: (_CONSTANT, False), 1: (_CONSTANT, True)}
        case "enum":
            return _one_of([(_CONSTANT, symbol) for symbol in schema["symbols"]], "an enum", "symbols")
        case "union":
            return _one_of([_field(branch, named)[:2] for branch in schema], "a union", "branches")
        case "record":
            return _OTHER, _record(schema, named), None
        case _:
            return *_scalar(schema, kind), None


def _one_of(steps: list[Step], what: str, parts: str) -> tuple[int, Read, dict[int, Step]]:
    short = {index << 1: step for index, step in enumerate(steps[:_SHORT_INDEXES])}
    return _OTHER, partial(_chosen, steps, what, parts), short


def _scalar(schema: Any, kind: str) -> Step:
    read = partial(_fixed, schema["size"]) if kind == "fixed" else _READS[kind]
    logical = f"{kind}-{schema.get('logicalType')}" if isinstance(schema, dict) else ""
    if logical in _MOMENTS:
        return _OTHER, _MOMENTS[logical]
    if logical in LOGICAL_READERS:
        return _OTHER, partial(_converted, read, LOGICAL_READERS[logical])
    return _SHORT.get(kind, _OTHER), read


def _chosen(steps: list[Step], what: str, parts: str, data: bytes, at: int) -> tuple[Any, int]:
    index, at = choice(data, at, len(steps), what, parts)
    kind, general = steps[index]
    return (general, at) if kind == _CONSTANT else general(data, at)


def _boolean(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] > 1:
        raise UndecodableError("a boolean is neither 0 nor 1")
    return data[at] == 1, at + 1


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = length(data, at)
    return data[at : at + size], at + size


def _string(data: bytes, at: int) -> tuple[str, int]:
    size, at = length(data, at)
    return data[at : at + size].decode(), at + size


def _fixed(size: int, data: bytes, at: int) -> tuple[bytes, int]:
    return data[at : at + size], at + size


def _real(form: struct.Struct, data: bytes, at: int) -> tuple[float, int]:
    return form.unpack(data[at : at + form.size])[0], at + form.size


def _converted(read: Read, convert: Callable[..., Any], data: bytes, at: int) -> tuple[Any, int]:
    value, at = read(data, at)
    return convert(value), at


# The commonest of fastavro's conversions, done in half the time.
def _millis(data: bytes, at: int) -> tuple[datetime, int]:
    number, at = varint(data, at)
    return _EPOCH + timedelta(0, 0, 0, number), at


def _micros(data: bytes, at: int) -> tuple[datetime, int]:
    number, at = varint(data, at)
    return _EPOCH + timedelta(0, 0, number), at


_READS: dict[str, Read] = {
    "int": partial(varint, highest=INT_MAX),
    "long": varint,
    "float": partial(_real, struct.Struct("<f")),
    "double": partial(_real, struct.Struct("<d")),
    "bytes": _bytes,
    "string": _string,
}
_SHORT = {"string": _TEXT, "int": _NUMBER, "long": _NUMBER}
_MOMENTS: dict[str, Read] = {"long-timestamp-millis": _millis, "long-timestamp-micros": _micros}

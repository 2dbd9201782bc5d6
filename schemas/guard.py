"""Walks encoded bytes along their schema without building anything: the check before untrusted bytes are decoded.

Invariant: what passes is one complete, exact encoding, and decoding it makes at most ``MAX_ITEMS`` array and map items'
worth of values. The walk is linear in the bytes plus ``MAX_ITEMS``, and no deeper than the schema.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from schemas.avsc import Parsed, children, kind_of
from schemas.errors import UndecodableError

if TYPE_CHECKING:
    from collections.abc import Callable

    # (bytes, position, items left: a list of one) -> position behind the value. Lengths only ever move the position
    # forward, so bytes that end too early show as an IndexError or as a last position beyond the end.
    Step = Callable[[bytes, int, list[int]], int]

MAX_ITEMS = 100_000
"""Values that the items of all arrays and maps of a record may come to; nulls and empty records count as well."""

_FLAT = {"null", "string", "bytes", "fixed", "int", "long", "float", "double", "record"}
_INT_MAX, _LONG_MAX = 2**32 - 1, 2**64 - 1
_LONGEST_SHIFT = 70  # ten bytes of seven bits
_SAFE_BYTES = 9
_BITS_PER_DIGIT = 3.33


class Guard:
    """The check for one schema, compiled to closures.

    Args:
        schema: What the bytes claim to be.
        start: Where in the bytes the encoding begins.
    """

    def __init__(self, schema: Parsed, *, start: int = 0, max_items: int = MAX_ITEMS) -> None:
        self._start = start
        self._max_items = max_items
        self._named = schema.named
        self._steps: dict[str, Step] = {}
        self._weights: dict[str, int] = {}
        self._step = self._compile(schema.schema)
        self.needless = self._flat(schema.schema)
        """Whether fastavro and a look for trailing bytes refuse as much: no unions, enums, booleans, arrays, maps."""

    def check(self, data: bytes) -> None:
        """Accept or refuse.

        Raises:
            UndecodableError: The bytes are not exactly one value of the schema, or hold too many items.
        """
        try:
            end = self._step(data, self._start, [self._max_items])
        except IndexError:
            raise UndecodableError("the bytes end too early") from None
        if end != len(data):
            raise UndecodableError(
                "the bytes end too early" if end > len(data) else f"{len(data) - end} bytes too many"
            )

    def _compile(self, schema: Any) -> Step:
        name = self._name(schema)
        if name is None:
            return self._build(schema)
        if name not in self._steps:
            self._steps[name] = self._build(self._named[name])
        return self._steps[name]

    def _build(self, schema: Any) -> Step:
        kind = kind_of(schema)
        inner = [self._compile(child) for child in children(schema)]
        match kind:
            case "record":
                return _record(inner)
            case "union":
                return partial(_union, inner)
            case "array":
                return partial(_blocks, inner[0], self._weight(schema["items"]))
            case "map":
                return partial(_blocks, _record([_string, inner[0]]), 1 + self._weight(schema["values"]))
            case "enum":
                return partial(_enum, len(schema["symbols"]))
            case _:
                return _scalar(schema, kind)

    def _name(self, schema: Any) -> str | None:
        name = schema if isinstance(schema, str) else schema.get("name") if isinstance(schema, dict) else None
        return name if name in self._named else None

    def _weight(self, schema: Any) -> int:
        # Values that decoding one such item makes at the most.
        name = self._name(schema)
        if name is None:
            return self._sum(schema)
        if name not in self._weights:
            self._weights[name] = self._sum(self._named[name])
        return self._weights[name]

    def _sum(self, schema: Any) -> int:
        inner = [self._weight(child) for child in children(schema)]
        return max(inner) if kind_of(schema) == "union" else 1 + sum(inner)

    def _flat(self, schema: Any) -> bool:
        name = self._name(schema)
        schema = schema if name is None else self._named[name]
        decimal = isinstance(schema, dict) and schema.get("logicalType") == "decimal"
        return kind_of(schema) in _FLAT and not decimal and all(self._flat(child) for child in children(schema))


def _scalar(schema: Any, kind: str) -> Step:
    if kind in ("bytes", "fixed") and isinstance(schema, dict) and schema.get("logicalType") == "decimal":
        # Turning n bytes into a decimal takes n² steps: no longer than the precision asks for.
        longest = int(schema["precision"] * _BITS_PER_DIGIT) // 8 + 2
        return partial(_decimal, longest) if kind == "bytes" else partial(_skip, schema["size"])
    if kind == "fixed":
        return partial(_skip, schema["size"])
    return _SCALARS[kind]


def _varint(data: bytes, at: int, highest: int) -> tuple[int, int]:
    # The zigzag-encoded number and the position behind it.
    byte = data[at]
    number = byte & 0x7F
    shift = 7
    while byte & 0x80:
        at += 1
        byte = data[at]
        number |= (byte & 0x7F) << shift
        shift += 7
        if number > highest or shift > _LONGEST_SHIFT:
            raise UndecodableError("a number has too many bytes")
    return (number >> 1) ^ -(number & 1), at + 1


def _length(data: bytes, at: int) -> tuple[int, int]:
    length, at = _varint(data, at, _LONG_MAX)
    if length < 0:
        raise UndecodableError("a length is negative")
    return length, at


def _skip(size: int, _: bytes, at: int, __: list[int]) -> int:
    return at + size


def _boolean(data: bytes, at: int, _: list[int]) -> int:
    if data[at] > 1:
        raise UndecodableError("a boolean is neither 0 nor 1")
    return at + 1


def _int(data: bytes, at: int, _: list[int]) -> int:
    return _varint(data, at, _INT_MAX)[1] if data[at] & 0x80 else at + 1


def _long(data: bytes, at: int, _: list[int]) -> int:
    end = at
    while data[end] & 0x80:
        end += 1
        if end - at == _SAFE_BYTES:  # fewer cannot hold too large a number
            return _varint(data, at, _LONG_MAX)[1]
    return end + 1


def _string(data: bytes, at: int, _: list[int]) -> int:
    byte = data[at]
    if byte & 0x81:  # more than one byte, or negative
        length, at = _length(data, at)
        return at + length
    return at + 1 + (byte >> 1)


def _decimal(longest: int, data: bytes, at: int, _: list[int]) -> int:
    length, at = _length(data, at)
    if length > longest:
        raise UndecodableError("a decimal has more digits than its precision")
    return at + length


def _enum(symbols: int, data: bytes, at: int, _: list[int]) -> int:
    byte = data[at]
    if not byte & 0x81 and byte >> 1 < symbols:
        return at + 1
    index, at = _varint(data, at, _INT_MAX)
    if not 0 <= index < symbols:
        raise UndecodableError(f"an enum has {symbols} symbols, not index {index}")
    return at


def _union(branches: list[Step], data: bytes, at: int, left: list[int]) -> int:
    byte = data[at]
    if not byte & 0x81 and byte >> 1 < len(branches):
        return branches[byte >> 1](data, at + 1, left)
    index, at = _varint(data, at, _LONG_MAX)
    if not 0 <= index < len(branches):
        raise UndecodableError(f"a union has {len(branches)} branches, not index {index}")
    return branches[index](data, at, left)


def _record(fields: list[Step]) -> Step:
    # Most fields are short strings and small numbers: those are passed over without a call.
    plain = [(each, each is _string, each is _long or each is _int) for each in fields]

    def step(data: bytes, at: int, left: list[int]) -> int:
        for each, text, number in plain:
            if text and not data[at] & 0x81:
                at += 1 + (data[at] >> 1)
            elif number and not data[at] & 0x80:
                at += 1
            else:
                at = each(data, at, left)
        return at

    return step


def _blocks(item: Step, weight: int, data: bytes, at: int, left: list[int]) -> int:
    # Blocks of items until an empty one; a negative count is followed by the block's size in bytes.
    while True:
        count, at = _varint(data, at, _LONG_MAX)
        if count == 0:
            return at
        size = None
        if count < 0:
            count = -count
            size, at = _length(data, at)
        left[0] -= count * weight
        if left[0] < 0:
            raise UndecodableError("too many items")
        begin = at
        for _ in range(count):
            at = item(data, at, left)
        if size is not None and at - begin != size:
            raise UndecodableError("a block's size is wrong")


_SCALARS: dict[str, Step] = {
    "null": partial(_skip, 0),
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": partial(_skip, 4),
    "double": partial(_skip, 8),
    "bytes": _string,
    "string": _string,
}

"""Walks encoded bytes along their schema without building anything: the check before untrusted bytes are decoded.

Invariant: what passes is one complete, exact encoding, and decoding it makes at most ``MAX_ITEMS`` array and map items'
worth of values. The walk is linear in the bytes plus ``MAX_ITEMS``, and no deeper than the schema.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from schemas.avsc import Parsed, children, kind_of
from schemas.errors import UndecodableError

if TYPE_CHECKING:
    from collections.abc import Callable

    # (bytes, position, items left: a list of one) -> position behind the value. Lengths only ever move the position
    # forward, so bytes that end too early show as an IndexError or as a last position beyond the end.
    Step = Callable[[bytes, int, list[int]], int]

MAX_ITEMS = 100_000
"""Values that the items of all arrays and maps of a record may come to; nulls and empty records count as well."""

INT_MAX, LONG_MAX = 2**32 - 1, 2**64 - 1
"""The highest numbers before the zigzag is undone."""
ENDS_EARLY = "the bytes end too early"
_WEIGHTS = tuple(1 << 7 * place for place in range(10))  # of a number's bytes, which have seven bits each
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

    def check(self, data: bytes) -> None:
        """Accept or refuse.

        Raises:
            UndecodableError: The bytes are not exactly one value of the schema, or hold too many items.
        """
        try:
            end = self._step(data, self._start, [self._max_items])
        except IndexError:
            raise UndecodableError(ENDS_EARLY) from None
        if end != len(data):
            refuse_end(data, end)

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


def _scalar(schema: Any, kind: str) -> Step:
    if kind in ("bytes", "fixed") and isinstance(schema, dict) and schema.get("logicalType") == "decimal":
        # Turning n bytes into a decimal takes n² steps: no longer than the precision asks for.
        longest = int(schema["precision"] * _BITS_PER_DIGIT) // 8 + 2
        return partial(_decimal, longest) if kind == "bytes" else partial(_skip, schema["size"])
    if kind == "fixed":
        return partial(_skip, schema["size"])
    return _SCALARS[kind]


def refuse_end(data: bytes, end: int) -> NoReturn:
    """Say what is wrong with bytes of which a walk of their schema did not end where they do."""
    raise UndecodableError(ENDS_EARLY if end > len(data) else f"{len(data) - end} bytes too many")


def varint(data: bytes, at: int, highest: int = LONG_MAX) -> tuple[int, int]:
    """The zigzag-encoded number at a position, and the position behind it."""
    number = 0
    for weight in _WEIGHTS:
        byte = data[at]
        at += 1
        if not byte & 0x80:
            number += byte * weight
            if number > highest:
                break
            return (number >> 1) ^ -(number & 1), at
        number += (byte - 0x80) * weight
    raise UndecodableError("a number has too many bytes")


def length(data: bytes, at: int) -> tuple[int, int]:
    """The same for a length."""
    size, at = varint(data, at)
    if size < 0:
        raise UndecodableError("a length is negative")
    return size, at


def choice(data: bytes, at: int, count: int, what: str, parts: str) -> tuple[int, int]:
    """The same for the index of one of ``count`` parts."""
    index, at = varint(data, at)
    if not 0 <= index < count:
        raise UndecodableError(f"{what} has {count} {parts}, not index {index}")
    return index, at


def _skip(size: int, _: bytes, at: int, __: list[int]) -> int:
    return at + size


def _boolean(data: bytes, at: int, _: list[int]) -> int:
    if data[at] > 1:
        raise UndecodableError("a boolean is neither 0 nor 1")
    return at + 1


def _int(data: bytes, at: int, _: list[int]) -> int:
    return varint(data, at, INT_MAX)[1] if data[at] & 0x80 else at + 1


def _long(data: bytes, at: int, _: list[int]) -> int:
    end = at
    while data[end] & 0x80:
        end += 1
        if end - at == _SAFE_BYTES:  # fewer cannot hold too large a number
            return varint(data, at)[1]
    return end + 1


def _string(data: bytes, at: int, _: list[int]) -> int:
    byte = data[at]
    if byte & 0x81:  # more than one byte, or negative
        size, at = length(data, at)
        return at + size
    return at + 1 + (byte >> 1)


def _decimal(longest: int, data: bytes, at: int, _: list[int]) -> int:
    size, at = length(data, at)
    if size > longest:
        raise UndecodableError("a decimal has more digits than its precision")
    return at + size


def _enum(symbols: int, data: bytes, at: int, _: list[int]) -> int:
    byte = data[at]
    if not byte & 0x81 and byte >> 1 < symbols:
        return at + 1
    return choice(data, at, symbols, "an enum", "symbols")[1]


def _union(branches: list[Step], data: bytes, at: int, left: list[int]) -> int:
    byte = data[at]
    if not byte & 0x81 and byte >> 1 < len(branches):
        return branches[byte >> 1](data, at + 1, left)
    index, at = choice(data, at, len(branches), "a union", "branches")
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
        count, at = varint(data, at)
        if count == 0:
            return at
        size = None
        if count < 0:
            count = -count
            size, at = length(data, at)
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

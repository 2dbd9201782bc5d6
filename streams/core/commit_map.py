"""The text kept with a committed offset: which offsets above it are finished, and since when a writer is trusted.

Format ``kl2.<base64>``: CRC-32 of the rest, the fence (offset + 1 as varint, 0 for none, then the writer's name
with its length), then the finished intervals as pairs of varints: distance from the last end, length.
Invariant: ``decode(encode(x)) == x`` while it fits; what does not decode is treated as absent, never as an error.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PREFIX = "kl2."
LIMIT = 4_000  # characters; the broker's offset.metadata.max.bytes is 4,096 by default

_SMALL = 0x80  # numbers below it are one byte long


@dataclass(frozen=True, slots=True)
class Fence:
    """From ``offset`` on, only records moved by ``mover`` (or by operators' tools) count; others are a zombie's."""

    offset: int
    mover: str


@dataclass(frozen=True, slots=True)
class CommitMap:
    """What stands beside a committed offset; ``finished`` holds half-open intervals above it, ascending."""

    finished: tuple[tuple[int, int], ...] = ()
    fence: Fence | None = None


def encode(committed: int, finished: Iterable[tuple[int, int]], fence: Fence | None) -> tuple[str, bool]:
    """The text, and whether all intervals fitted into ``LIMIT``; those that did not are the highest ones."""
    body = bytearray(_fence_bytes(fence))
    room = (LIMIT - len(PREFIX)) // 4 * 3 - 4  # base64 makes 4 characters of 3 bytes; 4 bytes are the checksum's
    last, complete = committed, True
    for start, end in finished:
        assert last <= start < end, "intervals are given in ascending order"
        gap, length = start - last, end - start
        pair = bytes((gap, length)) if gap < _SMALL and length < _SMALL else _varint(gap) + _varint(length)
        if len(body) + len(pair) > room:
            complete = False
            break
        body += pair
        last = end
    return PREFIX + base64.b64encode(binascii.crc32(body).to_bytes(4, "big") + body).decode(), complete


def decode(committed: int, text: str) -> CommitMap:
    """What ``encode`` wrote; an empty map for anything unreadable (foreign, older, cut short or damaged)."""
    if not text.startswith(PREFIX):
        return CommitMap()
    try:
        checked = base64.b64decode(text[len(PREFIX) :], validate=True)
        body = checked[4:]
        if binascii.crc32(body).to_bytes(4, "big") != checked[:4]:
            return CommitMap()
        return _parse(committed, body)
    except (ValueError, IndexError):
        return CommitMap()


def _parse(committed: int, body: bytes) -> CommitMap:
    numbers = iter(body)
    offset = _read_varint(numbers) - 1
    mover = bytes(next(numbers) for _ in range(_read_varint(numbers))).decode() if offset >= 0 else ""
    finished, last = [], committed
    for first in numbers:
        start = last + _read_varint(numbers, first)
        last = start + _read_varint(numbers)
        finished.append((start, last))
    return CommitMap(tuple(finished), Fence(offset, mover) if offset >= 0 else None)


def _fence_bytes(fence: Fence | None) -> bytes:
    if fence is None:
        return _varint(0)
    name = fence.mover.encode()
    return _varint(fence.offset + 1) + _varint(len(name)) + name


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >> 7:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(numbers: Iterator[int], first: int | None = None) -> int:
    byte = _next(numbers) if first is None else first
    value, shift = byte & 0x7F, 7
    while byte & 0x80:
        byte = _next(numbers)
        value |= (byte & 0x7F) << shift
        shift += 7
    return value


def _next(numbers: Iterator[int]) -> int:
    byte = next(numbers, None)
    if byte is None:
        raise ValueError("cut short")
    return byte

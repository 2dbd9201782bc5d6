"""The ``kl-`` headers of moved records and dead letters, the levels they name, and the names of a family's topics.

Invariant: a header set through :func:`replaced` has one value; parsing a stranger's bytes gives None, never an error.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Headers = Iterable[tuple[str, bytes]]

LEVEL = "kl-level"  # where the record is: a level's text
FROM = "kl-from"  # the place it was moved from: a place's text
MOVER = "kl-mover"
DUE = "kl-due"  # ms since the epoch
ATTEMPTS = "kl-attempts"
ORIGIN_TOPIC = "kl-origin-topic"
ORIGIN_PARTITION = "kl-origin-partition"
ORIGIN_OFFSET = "kl-origin-offset"
ORIGIN_TIMESTAMP = "kl-origin-timestamp"  # ms since the epoch
GROUP = "kl-group"
HANDLER = "kl-handler"
FIRST_FAILURE = "kl-first-failure"  # ms since the epoch
LAST_FAILURE = "kl-last-failure"  # ms since the epoch
EXCEPTION = "kl-exception"
MESSAGE = "kl-message"
STACK = "kl-stack"
CLASSIFICATION = "kl-classification"
VERSION = "kl-version"
TRACE = "kl-trace"
REPLAY_ID = "kl-replay-id"
ENTRY = "kl-entry"  # the dead letter a replayed record is a copy of: <dlt topic>/<partition>/<offset>
REPLAYS = "kl-replays"  # how often the record was replayed
HOLD = "kl-hold"  # "1": the key is held behind this dead letter
REQUEST = "kl-request"  # the same on every record of one request with an Idempotency-Key, however often it is sent
CONTROL = "kl-control"  # "discard": no record of the user's, frees a held key

HELD = "1"
DISCARD = "discard"
FOLLOWER = "follower"  # the classification of a record that waits behind a dead letter of its key

# Above every tier and lap there can be.
DLT = 2**31 - 1

_NUMBER = r"(0|[1-9][0-9]{0,17})"
_TIER_LEVEL = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}")
_DLT_LEVEL = re.compile(rf"{_NUMBER}\.dlt")
_MOST_DIGITS = 18
_LEVELS = 256  # that are remembered with their texts: a family has few, and each record of a tier names two
_ZERO = {"0", ord("0")}


class Level(NamedTuple):
    """A place's height in its family; the order of tuples is the order of levels.

    ``generation`` counts replays, ``lap`` the rounds through the tiers, ``tier`` the retry topics.
    """

    generation: int
    lap: int
    tier: int


class Place(NamedTuple):
    """An offset at a level; the partition number is the family's."""

    level: Level
    offset: int


SOURCE = Level(-1, 0, 0)


def dlt_level(generation: int) -> Level:
    """The level of the dead letters of a generation: above all its tiers, below the next generation."""
    return Level(generation, DLT, DLT)


@lru_cache(_LEVELS)
def format_level(level: Level) -> str:
    """``source``, ``<generation>.dlt`` or ``<generation>.<lap>.<tier>``."""
    if level == SOURCE:
        return "source"
    if level.tier == DLT:
        return f"{level.generation}.dlt"
    return f"{level.generation}.{level.lap}.{level.tier}"


@lru_cache(_LEVELS)
def parse_level(text: str | bytes | None) -> Level | None:
    """The level a text names, or None where it names none."""
    text = _decoded(text)
    if text == "source":
        return SOURCE
    if found := _DLT_LEVEL.fullmatch(text):
        return dlt_level(int(found[1]))
    if found := _TIER_LEVEL.fullmatch(text):
        level = Level(int(found[1]), int(found[2]), int(found[3]))
        return level if max(level.lap, level.tier) < DLT else None
    return None


def format_place(place: Place) -> str:
    """``<level>@<offset>``."""
    return f"{format_level(place.level)}@{place.offset}"


def parse_place(text: str | bytes | None) -> Place | None:
    """The place a text names, or None where it names none."""
    head, _, tail = _decoded(text).rpartition("@")
    level, offset = parse_level(head), parse_number(tail)
    return None if level is None or offset is None else Place(level, offset)


def parse_number(text: str | bytes | None) -> int | None:
    """A whole number >= 0 in its plain decimal form, or None."""
    if not text or len(text) > _MOST_DIGITS or not text.isdigit() or not text.isascii():
        return None
    return None if text[0] in _ZERO and len(text) > 1 else int(text)


def header(headers: Headers, name: str) -> bytes | None:
    """The last value of a header, or None where it is absent or null."""
    found = None
    for candidate, value in headers:
        if candidate == name:
            found = value
    return found


def text(headers: Headers, name: str) -> str | None:
    """The last value of a header as text; bytes that are not UTF-8 are replaced."""
    value = header(headers, name)
    return None if value is None else value.decode(errors="replace")


def number(headers: Headers, name: str) -> int | None:
    """The last value of a header as a whole number >= 0, or None where it is none."""
    return parse_number(header(headers, name))


def replaced(headers: Headers, values: Mapping[str, str | bytes | None]) -> list[tuple[str, bytes]]:
    """The headers with each of ``values`` once, at the end; a value of None takes the header away.

    All other headers keep their order and their number.
    """
    kept = [(name, value) for name, value in headers if name not in values]
    new = [
        (name, value.encode() if isinstance(value, str) else value)
        for name, value in values.items()
        if value is not None
    ]
    return [*kept, *new]


def tier_topic(source: str, group: str, tier: int) -> str:
    """The topic of a group's retry tier ``tier``; tier 0 takes replays."""
    return f"{source}.{group}.retry.{tier}"


def dlt_topic(source: str, group: str) -> str:
    """The topic of a group's dead letters."""
    return f"{source}.{group}.dlt"


def _decoded(text: str | bytes | None) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text or ""

"""Places in several topics as one line of text, the id of what was told last: ``topic:offset,offset;topic:offset``.

Invariant: ``decode(encode(positions)) == positions``; text that nobody encoded is None, never an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 8_000  # characters: what clients send back in a header
_TOPIC = re.compile(r"([A-Za-z0-9._-]{1,249}):(\d{1,18}(?:,\d{1,18})*)")


def encode(positions: Mapping[TopicPartition, int]) -> str:
    """The text; partitions are numbered from 0 without a gap, as Kafka does."""
    offsets: dict[str, list[str]] = {}
    for place in sorted(positions):
        offsets.setdefault(place.topic, []).append(str(positions[place]))
    return ";".join(f"{topic}:{','.join(found)}" for topic, found in offsets.items())


def decode(text: str) -> dict[TopicPartition, int] | None:
    """The positions, or None where it is no such text."""
    if len(text) > LONGEST:
        return None
    parts = [_TOPIC.fullmatch(part) for part in text.split(";")]
    if not all(parts):
        return None
    found = [(part[1], part[2].split(",")) for part in parts if part is not None]
    if len({topic for topic, _ in found}) != len(found):
        return None
    return {
        TopicPartition(topic, partition): int(offset)
        for topic, offsets in found
        for partition, offset in enumerate(offsets)
    }

"""Whether a family can be looked at: a deployment may be looked at before its topics were created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core.track import SHELF_SOURCE

if TYPE_CHECKING:
    from streams.engine.family import Family
    from streams.ports import LogReader


class MissingTopicError(Exception):
    """A family lacks topics or partitions; the message says which, and what to do."""


async def partitions_of(family: Family, reader: LogReader) -> list[int]:
    """The partition numbers of the family.

    Raises:
        MissingTopicError: A topic does not exist, or has other partitions than the source.
        TransientError: No broker answered.
    """
    places = await reader.ends(list(family.shelves))
    found = {topic: {place.partition for place in places if place.topic == topic} for topic in family.shelves}
    source = found[family.topics[SHELF_SOURCE]]
    wrong = sorted(topic for topic, partitions in found.items() if partitions != source or not partitions)
    if wrong:
        raise MissingTopicError(
            f"group {family.group}: {', '.join(wrong)} is missing or has other partitions than the source: "
            "run `keylane topics plan`"
        )
    return sorted(source)

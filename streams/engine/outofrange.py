"""What to do when the log no longer has what was to be read next.

Invariant: records that are held in memory are kept wherever the core's books stay true without the lost ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core.gaps import Gap, unfinished
from streams.core.track import SHELF_SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.core.group import Core
    from streams.engine.family import Family
    from streams.ports import LogReader, TopicPartition


async def gaps_behind(
    family: Family, core: Core, reader: LogReader, lost: Mapping[TopicPartition, int]
) -> dict[TopicPartition, Gap] | None:
    """Where to read on, by partition; None if the partitions have to be taken over anew.

    So it is for a tier, whose lost records the core counts as outstanding, and where the log was made anew or cut
    off: what it has now is not what was read.

    Raises:
        TransientError: The cluster cannot be read for now.
    """
    topics = [place.topic for place in lost]
    starts, ends = await reader.starts(topics), await reader.ends(topics)
    gaps = {}
    for place, position in lost.items():
        if position > ends.get(place, position):
            return None
        start = starts.get(place, 0)
        lanes = core.partitions.get(place.partition)
        if position >= start or lanes is None:
            continue  # there again, or no longer ours
        if family.shelves[place.topic] != SHELF_SOURCE:
            return None
        gaps[place] = Gap("expired", position, start, unfinished(position, start, lanes.source.ahead))
    return gaps

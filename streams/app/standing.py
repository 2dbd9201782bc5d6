"""Wires what ``keylane lane`` and ``keylane lag`` look with, over all groups a deployment declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.adapters.kafka.offsets import KafkaCommits
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.partitioning import partition_of
from streams.adapters.kafka.reader import KafkaLogReader
from streams.catalogue import load_catalogue
from streams.deadletters.entry import families
from streams.deadletters.reading import DeadLetters
from streams.engine.family import Family
from streams.groups import chosen, groups, history_group
from streams.standing.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.job import Group
    from streams.settings import Settings
    from streams.standing.keys import KeyStanding


async def of_key(settings: Settings, names: Sequence[str], key: bytes, depth: int) -> list[KeyStanding]:
    """Where the key stands in these groups, in all where none are named.

    Raises:
        CatalogueError: The declarations cannot be loaded, or have no such group.
        DeadLetterError: The states of dead letters cannot be read.
        NoSuchTopicError: A group's source does not exist.
        TransientError: No broker answered.
    """
    kafka, meant = client_options(settings), _groups(settings, names)
    reader = KafkaLogReader(kafka)
    letters = DeadLetters(reader, families(meant), max_replays=settings.max_replays)
    keys = Keys(reader, letters, await letters.ledger(), partition_of, depth=depth)
    return [await keys.standing(Family(group), KafkaCommits(kafka, group.name), key) for group in meant]


def _groups(settings: Settings, names: Sequence[str]) -> list[Group]:
    return chosen([*groups(load_catalogue(settings)), history_group()], names)

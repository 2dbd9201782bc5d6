"""Wires what ``keylane lane`` and ``keylane lag`` look with, over all groups a deployment declares."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.adapters.kafka.offsets import KafkaCommits
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.partitioning import partition_of
from streams.adapters.kafka.reader import KafkaLogReader
from streams.catalogue import load_catalogue
from streams.deadletters.entry import Filters, families
from streams.deadletters.reading import DeadLetters
from streams.engine.family import Family
from streams.groups import chosen, groups, history_group
from streams.standing.groups import progress, standing
from streams.standing.keys import Keys
from streams.standing.topics import MissingTopicError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.job import Group
    from streams.settings import Settings
    from streams.standing.groups import GroupStanding, Progress
    from streams.standing.keys import KeyStanding


async def of_key(settings: Settings, names: Sequence[str], key: bytes, depth: int) -> list[KeyStanding]:
    """Where the key stands in these groups, in all where none are named.

    Raises:
        CatalogueError: The declarations cannot be loaded, or have no such group.
        DeadLetterError: The states of dead letters cannot be read.
        MissingTopicError: A topic of a group does not exist.
        TransientError: No broker answered.
    """
    kafka, meant = client_options(settings), _groups(settings, names)
    reader = KafkaLogReader(kafka)
    letters = DeadLetters(reader, families(meant), max_replays=settings.max_replays)
    keys = Keys(reader, letters, await letters.ledger(), partition_of, depth=depth)
    return [await keys.standing(Family(group), KafkaCommits(kafka, group.name), key) for group in meant]


@dataclass(frozen=True, slots=True)
class Row:
    """One group: where it stands and how fast it goes; or why that cannot be told."""

    group: str
    standing: GroupStanding | None = None
    open_dead_letters: int = 0
    published_per_second: float = 0.0
    finished_per_second: float = 0.0
    problem: str | None = None


class Lag:
    """Looks at groups, again and again; rates are over the time since the look before.

    Raises:
        CatalogueError: The declarations cannot be loaded, or have no such group.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self._kafka = client_options(settings)
        self._groups = _groups(settings, names)
        self._reader = KafkaLogReader(self._kafka)
        self._letters = DeadLetters(self._reader, families(self._groups), max_replays=settings.max_replays)
        self._before: dict[str, Progress] = {}

    async def look(self, every: float) -> list[Row]:
        """One row per group; at least ``every`` seconds lie between the looks that the rates come from.

        Raises:
            DeadLetterError: The states of dead letters cannot be read.
            TransientError: No broker answered.
        """
        if not self._before:
            await asyncio.gather(*map(self._note_progress, self._groups))
            await asyncio.sleep(every)
        dead = await self._open_dead_letters()
        return [await self._row(group, dead[group.name]) for group in self._groups]

    async def _row(self, group: Group, dead: int) -> Row:
        try:
            found = await standing(Family(group), KafkaCommits(self._kafka, group.name), self._reader, time.time())
        except MissingTopicError as error:
            return Row(group.name, problem=str(error))
        published, finished = await self._note_progress(group)
        return Row(group.name, found, dead, published, finished)

    async def _note_progress(self, group: Group) -> tuple[float, float]:
        """Records published and finished per second since the look before."""
        commits = KafkaCommits(self._kafka, group.name)
        now = await progress(Family(group), commits, self._reader, time.time())
        before, self._before[group.name] = self._before.get(group.name, now), now
        return now.since(before)

    async def _open_dead_letters(self) -> Counter[str]:
        found: Counter[str] = Counter()
        filters = Filters(states=frozenset({"open", "parked"}))
        async for entry in self._letters.entries(filters, await self._letters.ledger()):
            found[entry.family.group] += 1
        return found


def _groups(settings: Settings, names: Sequence[str]) -> list[Group]:
    return chosen([*groups(load_catalogue(settings)), history_group()], names)

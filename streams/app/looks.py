"""Looks for the gateway at keys, groups and topics, with what the commands look with, and puts it into its models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.catalogue import contracts
from streams.adapters import workers
from streams.adapters.kafka import cluster
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.reader import KafkaLogReader
from streams.app import standing
from streams.app.standing import Lag
from streams.catalogue import load_catalogue
from streams.core.headers import DLT, format_level
from streams.deadletters.reading import DeadLetterError
from streams.gateway.intake import now, rfc3339
from streams.gateway.looks import NothingThereError
from streams.gateway.lookviews import (
    GapView,
    HeldView,
    LaneGroup,
    LaneView,
    LetterRef,
    LevelView,
    PartitionView,
    QueueList,
    QueueView,
    TopicList,
    TopicView,
    UnfinishedView,
)
from streams.groups import CatalogueError
from streams.job import TransientError
from streams.standing.topics import MissingTopicError
from streams.topics import wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.adapters.kafka.cluster import TopicFacts
    from streams.app.standing import Row
    from streams.core.gaps import Gap
    from streams.core.standing import AtLevel
    from streams.ports import TopicPartition
    from streams.settings import Settings
    from streams.standing.keys import KeyStanding, Unfinished

_DEPTH = 20_000  # records of a source looked at for a key
_APART = 1.0  # seconds between the two looks that the first rates come from
_FOR_EVER = "-1"


class KafkaLooks:
    """The ``Looks`` port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kafka = client_options(settings)
        self._lag = Lag(settings, [])
        declared = wanted(load_catalogue(settings), contracts(), settings.replication_factor)
        self._topics = [topic.name for topic in declared]

    async def lane(self, key: str, group: str | None) -> LaneView:
        """See the port."""
        try:
            found = await standing.of_key(self._settings, [group] if group else [], key.encode(), _DEPTH)
        except CatalogueError:
            raise NothingThereError(f"There is no group {group!r}") from None
        except (MissingTopicError, DeadLetterError) as error:
            raise TransientError(str(error)) from error
        asked = await workers.lane(self._workers, key)
        unheard = "no worker was asked, or it did not answer: only they know whether the key runs or waits in place"
        silent = not asked or any(answer.problem for answer in asked)
        held = {one.group: [answer.groups.get(one.group) for answer in asked] for one in found}
        groups = [_lane_group(one, held[one.group]) for one in found]
        return LaneView(key=key, at=now(), groups=groups, not_known=[unheard] if silent else [])

    async def queues(self) -> QueueList:
        """See the port."""
        try:
            rows = await self._lag.look(_APART)
        except DeadLetterError as error:
            raise TransientError(str(error)) from error
        return QueueList(at=now(), queues=[_queue(row) for row in rows])

    async def topics(self) -> TopicList:
        """See the port."""
        found = await cluster.look(self._kafka, self._topics)
        reader = KafkaLogReader(self._kafka)
        starts, ends = await reader.starts(self._topics), await reader.ends(self._topics)
        shown = [_topic(found.topics[name], starts, ends) for name in sorted(found.topics)]
        return TopicList(at=now(), topics=shown)

    @property
    def _workers(self) -> list[str]:
        port = self._settings.worker_port
        return [f"http://{self._settings.worker_host}:{port}"] if port else []


def _lane_group(one: KeyStanding, held: Sequence[Mapping[str, Any] | None]) -> LaneGroup:
    return LaneGroup(
        group=one.group,
        source=one.source,
        partition=one.partition,
        unfinished=_unfinished(one.unfinished),
        levels=[_level(level) for level in one.levels],
        dead_letters=[LetterRef(ref=entry.ref, state=entry.state, held=entry.held) for entry in one.dead_letters],
        held=[HeldView(**{**each, "due_at": _seconds(each["due"])}) for each in held if each is not None],
        gaps=_gaps(one.gaps),
    )


def _unfinished(found: Unfinished) -> UnfinishedView:
    return UnfinishedView(
        records=found.records,
        offset=found.offset,
        published_at=_time(found.published),
        before=found.before,
        beyond=found.beyond,
    )


def _level(level: AtLevel) -> LevelView:
    return LevelView(
        level=format_level(level.level),
        topic="dlt" if level.shelf == DLT else f"retry.{level.shelf}",
        offset=level.offset,
        due_at=_seconds(level.due),
        attempts=level.attempts,
        records=level.records,
    )


def _queue(row: Row) -> QueueView:
    if row.standing is None:
        return QueueView(group=row.group, problem=row.problem)
    found = row.standing
    return QueueView(
        group=row.group,
        source=found.source,
        lag=found.lag,
        oldest_at=_time(found.oldest),
        parked=dict(found.parked),
        due=found.due,
        next_due_at=_seconds(found.next_due),
        held_keys=found.held_keys,
        dead_letters=row.open_dead_letters,
        published_per_second=round(row.published_per_second, 3),
        finished_per_second=round(row.finished_per_second, 3),
        partitions=tuple(
            PartitionView(partition=one.partition, lag=one.lag, oldest_at=_time(one.oldest)) for one in found.partitions
        ),
        gaps=tuple(_gaps(found.gaps)),
    )


def _gaps(gaps: Mapping[TopicPartition, Gap]) -> list[GapView]:
    return [
        GapView(topic=place.topic, partition=place.partition, stood=gap.stood, begin=gap.begin, reason=gap.reason)
        for place, gap in gaps.items()
    ]


def _topic(facts: TopicFacts, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> TopicView:
    places = sorted(place for place in ends if place.topic == facts.name)
    retention = facts.configs.get("retention.ms", _FOR_EVER)
    kept = "delete" not in facts.configs.get("cleanup.policy", "delete") or retention == _FOR_EVER
    return TopicView(
        name=facts.name,
        partitions=facts.partitions,
        replicas=facts.replicas,
        lagging=facts.lagging,
        leaderless=facts.leaderless,
        cleanup=facts.configs.get("cleanup.policy", "delete"),
        retention_ms=None if kept else int(retention),
        records=sum(ends[place] - starts.get(place, 0) for place in places),
        starts=[starts.get(place, 0) for place in places],
        ends=[ends[place] for place in places],
    )


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else rfc3339(milliseconds)


def _seconds(moment: float | None) -> str | None:
    """A time in seconds since the epoch; 0 is none."""
    return rfc3339(int(moment * 1000)) if moment else None

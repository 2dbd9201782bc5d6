"""One dead letter with its state, and the filters that choose among many.

Invariant: reading what a stranger wrote into a dead-letter topic gives an entry with gaps, never an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streams.core import headers as h
from streams.core.replay import State, Where, generation_of
from streams.event import tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.deadletters.ledger import Standing
    from streams.job import Group
    from streams.ports import Record


class Family(NamedTuple):
    """A source topic with the consumer group whose tiers and dead letters belong to it."""

    source: str
    group: str

    @property
    def dlt(self) -> str:
        """The topic of its dead letters."""
        return h.dlt_topic(self.source, self.group)

    @property
    def replays(self) -> str:
        """The topic that takes its replays."""
        return h.tier_topic(self.source, self.group, 0)


def families(groups: Iterable[Group]) -> tuple[Family, ...]:
    """The families of a deployment's groups."""
    return tuple(Family(group.source, group.name) for group in groups)


class Origin(NamedTuple):
    """Where the record was first published; ``timestamp`` in ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A dead letter.

    Attributes:
        operation: The name of the replay or discard that took it.
        unfinished: Whether that has still to finish, so that the entry may or may not have been written already.
        failed_at: Last failure, ms since the epoch; where unknown, when the dead letter was written.
        record: As stored: original key and value bytes, all headers.
    """

    family: Family
    where: Where
    offset: int
    record: Record
    state: State
    operation: str | None
    unfinished: bool
    replays: int
    generation: int
    type: str
    exception: str
    classification: str
    failed_at: int
    origin: Origin | None

    @classmethod
    def of(cls, family: Family, record: Record, standing: Standing) -> Entry:
        """The entry of a record of a dead-letter topic, in the state the ledger knows."""
        return cls(
            family=family,
            where=Where(record.topic, record.partition),
            offset=record.offset,
            record=record,
            state=standing.state,
            operation=standing.operation.name if standing.operation else None,
            unfinished=standing.unfinished,
            replays=h.number(record.headers, h.REPLAYS) or 0,
            generation=generation_of(record.headers),
            type=h.text(record.headers, "ce_type") or "",
            exception=h.text(record.headers, h.EXCEPTION) or "",
            classification=h.text(record.headers, h.CLASSIFICATION) or "",
            failed_at=h.number(record.headers, h.LAST_FAILURE) or record.timestamp,
            origin=origin_of(record),
        )

    @property
    def ref(self) -> str:
        """``<topic>/<partition>/<offset>``, the entry's name everywhere."""
        return format_ref(self.where, self.offset)

    @property
    def key(self) -> str | None:
        """The record key as text."""
        return None if self.record.key is None else self.record.key.decode(errors="replace")

    @property
    def tenant(self) -> str:
        """The tenant part of the key."""
        return tenant_of(self.record.key)

    @property
    def held(self) -> bool:
        """Whether the key's later records wait behind it."""
        return h.text(self.record.headers, h.HOLD) == h.HELD

    @property
    def message(self) -> str:
        """What the exception said."""
        return h.text(self.record.headers, h.MESSAGE) or ""


def format_ref(where: Where, offset: int) -> str:
    """``<topic>/<partition>/<offset>``."""
    return f"{where.topic}/{where.partition}/{offset}"


def parse_ref(text: str) -> tuple[Where, int] | None:
    """The partition and offset an entry's name stands for, or None."""
    topic, *numbers = text.split("/")
    partition, offset = (h.parse_number(number) for number in numbers) if len(numbers) == 2 else (None, None)  # noqa: PLR2004 - a partition and an offset
    return None if not topic or partition is None or offset is None else (Where(topic, partition), offset)


def origin_of(record: Record) -> Origin | None:
    """The origin its headers name, or None."""
    topic = h.text(record.headers, h.ORIGIN_TOPIC)
    partition, offset = h.number(record.headers, h.ORIGIN_PARTITION), h.number(record.headers, h.ORIGIN_OFFSET)
    if topic is None or partition is None or offset is None:
        return None
    return Origin(topic, partition, offset, h.number(record.headers, h.ORIGIN_TIMESTAMP) or 0)


def is_follower(record: Record) -> bool:
    """Whether the record only waits behind a dead letter of its key."""
    return h.text(record.headers, h.CLASSIFICATION) == h.FOLLOWER


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which entries are meant; what is left None or empty does not restrict.

    Attributes:
        topic: The source topic or the dead-letter topic.
        key: The whole record key or its entity part.
        exception: The exception's full class name or its last part.
        since: Failed at or after, ms since the epoch.
        until: Failed before, ms since the epoch.
        first: Lowest offset.
        last: Highest offset.
        refs: These very entries.
    """

    group: str | None = None
    topic: str | None = None
    tenant: str | None = None
    key: str | None = None
    type: str | None = None
    exception: str | None = None
    since: int | None = None
    until: int | None = None
    partition: int | None = None
    first: int | None = None
    last: int | None = None
    states: frozenset[State] = frozenset()
    refs: frozenset[str] = frozenset()

    def has_family(self, family: Family) -> bool:
        """Whether entries of the family can match."""
        named = not self.refs or any(ref.startswith(f"{family.dlt}/") for ref in self.refs)
        return named and self.group in {None, family.group} and self.topic in {None, family.source, family.dlt}

    def match(self, entry: Entry) -> bool:
        """Whether the entry is meant."""
        return self.has_family(entry.family) and all(
            (
                self.tenant in {None, entry.tenant},
                self.key in {None, entry.key, (entry.key or "").partition("/")[2]},
                self.type in {None, entry.type},
                self.exception in {None, entry.exception, entry.exception.rpartition(".")[2]},
                self.partition in {None, entry.where.partition},
                not self.states or entry.state in self.states,
                not self.refs or entry.ref in self.refs,
                _within(self.since, entry.failed_at, None if self.until is None else self.until - 1),
                _within(self.first, entry.offset, self.last),
            )
        )


def _within(low: int | None, value: int, high: int | None) -> bool:
    return (low is None or low <= value) and (high is None or value <= high)

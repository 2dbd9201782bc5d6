"""Reads dead letters from their topics, joined with their states, newest first.

Invariant: at most ``window`` records are in memory at a time, however long the topics are; of a dead letter written
twice by a worker and its successor only the later copy is an entry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streams.core import headers as h
from streams.core.replay import Where
from streams.deadletters.entry import Entry, Family, format_ref, is_follower, origin_of
from streams.deadletters.ledger import PARTITION, TOPIC, Ledger
from streams.ports import TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from streams.deadletters.entry import Filters
    from streams.ports import LogReader, Record

WINDOW = 4_000  # records
# Dead letters are written within moments of their failure, but by several clocks.
CLOCKS_APART = 60_000  # ms
# Copies of one dead letter lie about as near to each other: read again before where a list goes on.
OVERLAP = 500  # records


class DeadLetterError(Exception):
    """What was asked of the dead letters cannot be done; the message says why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Found:
    """An entry, or the earlier copy of one: ``twin`` is the offset of the copy that stands for it."""

    entry: Entry
    twin: int | None = None


Spans = dict[TopicPartition, tuple[int, int]]


class DeadLetters:
    """The dead letters of some families.

    Args:
        reader: Reads the topics.
        families: Whose dead letters; families whose dead-letter topic does not exist have none.
        max_replays: From so many replays on an open entry is ``parked``.
        window: Records held in memory at a time.
    """

    def __init__(
        self, reader: LogReader, families: Sequence[Family], *, max_replays: int, window: int = WINDOW
    ) -> None:
        self._reader = reader
        self._families = {family.dlt: family for family in families}
        self._max_replays = max_replays
        self._window = window

    @property
    def reader(self) -> LogReader:
        """Where they are read from."""
        return self._reader

    def family(self, topic: str) -> Family:
        """The family of a dead-letter topic.

        Raises:
            DeadLetterError: No queue or subscription of this deployment has that topic.
        """
        try:
            return self._families[topic]
        except KeyError:
            raise DeadLetterError(f"{topic} is not a dead-letter topic of this deployment") from None

    async def ledger(self) -> Ledger:
        """All states as of now.

        Raises:
            DeadLetterError: The state topic does not exist.
        """
        ledger = Ledger()
        await self.refresh(ledger)
        return ledger

    async def refresh(self, ledger: Ledger) -> None:
        """Take in what was written since the ledger was last read."""
        place = TopicPartition(TOPIC, PARTITION)
        ends = await self._reader.ends([TOPIC])
        if place not in ends:
            raise DeadLetterError(f"the topic {TOPIC} does not exist: run `keylane topics apply`")
        start = max(ledger.end, (await self._reader.starts([TOPIC]))[place])
        async for batch in self._reader.read({place: start}, {place: ends[place]}):
            ledger.fold(batch)

    async def entries(
        self, filters: Filters, ledger: Ledger, below: Mapping[TopicPartition, int] | None = None
    ) -> AsyncIterator[Entry]:
        """The entries that match; newest first within a partition, and nearly so over all.

        Args:
            filters: Which are meant.
            ledger: Their states.
            below: Go on in each partition with the offsets below these.
        """
        ends = below or {}
        spans = {
            place: (low, min(end, ends.get(place, end) + OVERLAP))
            for place, (low, end) in (await self._spans(filters)).items()
            if low < ends.get(place, end)
        }
        async for found in self._scan(spans, ledger, filters.since):
            at = found.entry.offset
            if (
                found.twin is None
                and at < ends.get(TopicPartition(*found.entry.where), at + 1)
                and filters.match(found.entry)
            ):
                yield found.entry

    async def ends(self, filters: Filters) -> dict[TopicPartition, int]:
        """Where the dead letters of the families meant end now."""
        return {place: end for place, (_, end) in (await self._spans(filters)).items()}

    async def everything(self, filters: Filters, ledger: Ledger) -> AsyncIterator[Found]:
        """All entries and copies of the families and the partition meant, whether or not the filters match."""
        spans = await self._spans(filters, whole=True)
        async for found in self._scan(spans, ledger, None):
            yield found

    async def entry(self, where: Where, offset: int, ledger: Ledger) -> Entry:
        """One entry.

        Raises:
            DeadLetterError: There is none at that place.
        """
        self.family(where.topic)
        place = TopicPartition(*where)
        if offset < (await self._reader.ends([where.topic])).get(place, 0):
            async for record in self.records(where, [offset]):
                return self._entry(record, ledger)
        raise DeadLetterError(f"{format_ref(where, offset)} does not exist (any more)")

    async def records(self, where: Where, offsets: Iterable[int]) -> AsyncIterator[Record]:
        """The records at some offsets below the partition's end, in log order; those that have expired are left out."""
        wanted = set(offsets)
        if not wanted:
            return
        place = TopicPartition(*where)
        async for batch in self._reader.read({place: min(wanted)}, {place: max(wanted) + 1}):
            for record in batch:
                if record.offset in wanted:
                    yield record

    async def _spans(self, filters: Filters, *, whole: bool = False) -> Spans:
        topics = [topic for topic, family in self._families.items() if filters.has_family(family)]
        if not topics:
            return {}
        starts, ends = await self._reader.starts(topics), await self._reader.ends(topics)
        spans: Spans = {}
        for place, end in ends.items():
            low = starts[place] if whole else max(starts[place], filters.first or 0)
            # A copy behind the last offset asked for would stand for one before it, so only what is before is cut.
            if filters.partition in {None, place.partition} and low < end:
                spans[place] = (low, end)
        return spans

    async def _scan(self, spans: Spans, ledger: Ledger, since: int | None) -> AsyncIterator[Found]:
        copies = _Copies()
        while spans:
            size = max(1, self._window // len(spans))
            window = {place: (max(low, end - size), end) for place, (low, end) in spans.items()}
            records = await self._read(window)
            found = [Found(self._entry(record, ledger), copies.twin(record)) for record in records]
            for one in _newest_first(found):
                yield one
            passed = _passed(records, since)
            spans = {
                place: (spans[place][0], start)
                for place, (start, _) in window.items()
                if start > spans[place][0] and place not in passed
            }

    async def _read(self, window: Mapping[TopicPartition, tuple[int, int]]) -> list[Record]:
        """The records of the window, within a partition the latest first."""
        start, end = ({place: span[side] for place, span in window.items()} for side in (0, 1))
        records = [record async for batch in self._reader.read(start, end) for record in batch]
        return sorted(records, key=lambda record: record.offset, reverse=True)

    def _entry(self, record: Record, ledger: Ledger) -> Entry:
        standing = ledger.standing(Where(record.topic, record.partition), record.offset)
        entry = Entry.of(self._families[record.topic], record, standing)
        if standing.state != "open" or standing.unfinished:
            return entry
        if is_follower(record):
            return replace(entry, state="waiting")
        return replace(entry, state="parked") if entry.replays >= self._max_replays else entry


def _newest_first(found: Iterable[Found]) -> list[Found]:
    """By their times, but never out of the order of their partition, in which they come, whatever clocks said."""
    times: dict[Where, int] = {}
    timed: list[tuple[int, Found]] = []
    for one in found:
        where, time = one.entry.where, one.entry.record.timestamp
        times[where] = min(times.get(where, time), time)
        timed.append((times[where], one))
    # Of the same millisecond by their partitions, so that a list is the same whoever asks for it.
    return [one for _, one in sorted(timed, key=lambda pair: (pair[0], pair[1].entry.where), reverse=True)]


class _Copies:
    """Recognises a record whose origin and replay count were seen before: a worker and its successor wrote both.

    Keeps a hash per record instead of the record, so that a million of them take some 100 MB.
    """

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def twin(self, record: Record) -> int | None:
        """The offset of the copy seen before, which stands for this one; None for the first."""
        origin = origin_of(record)
        if origin is None:
            return None
        identity = hash((record.topic, record.partition, origin[:3], h.number(record.headers, h.REPLAYS) or 0))
        first = self._seen.setdefault(identity, record.offset)
        return None if first == record.offset else first


def _passed(records: Sequence[Record], since: int | None) -> set[TopicPartition]:
    """The partitions whose records are all older than what is asked for, so that no earlier one can match."""
    if since is None:
        return set()
    newest: dict[TopicPartition, int] = {}
    for record in records:
        place = TopicPartition(record.topic, record.partition)
        newest[place] = max(newest.get(place, 0), record.timestamp)
    return {place for place, timestamp in newest.items() if timestamp < since - CLOCKS_APART}

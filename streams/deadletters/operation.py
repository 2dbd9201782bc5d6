"""Carries out replays and discards: claims entries in the ledger, then writes to the families' ``retry.0`` topics.

Invariant: an entry is written at most once by one operation, and by at most one operation, whoever is killed when; the
entries of a key are written in their order, each only after the one before it was acknowledged.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from streams.core import headers as h
from streams.core.replay import Candidate, Planner, Where
from streams.deadletters.ledger import Claim, Operation, finished
from streams.deadletters.reading import DeadLetterError
from streams.deadletters.running import Pulse, Run
from streams.deadletters.writing import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from streams.core.replay import Kind, Plan
    from streams.deadletters.entry import Filters
    from streams.deadletters.ledger import Ledger
    from streams.deadletters.reading import DeadLetters, Found
    from streams.deadletters.running import Report
    from streams.deadletters.writing import Clock
    from streams.ports import Publisher, TopicPartition

CLAIM_SIZE = 1_000  # entries
SILENCE = 20.0  # seconds without a sign of life: it has ended, and what it sent has arrived or never will
ARRIVAL = 1.0  # seconds until what a process sent before it ended has arrived


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan, with the ledger it was made from."""

    kind: Kind
    filters: Filters
    plan: Plan
    ledger: Ledger

    @property
    def shown(self) -> dict[str, Any]:
        """The filters, as far as they restrict."""
        return _shown(self.filters)


class Operations:
    """Replays and discards over some dead letters.

    Args:
        letters: What is read.
        publisher: Takes what is written.
        clock: Tells the time and waits.
        by: Who does it, for the ledger.
        ended: Whether the process of that name is known to have ended; False where that cannot be told.
    """

    def __init__(
        self,
        letters: DeadLetters,
        publisher: Publisher,
        clock: Clock,
        *,
        by: str,
        ended: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._letters = letters
        self._publisher = publisher
        self._clock = clock
        self._by = by
        self._ended = ended

    async def draft(self, kind: Kind, filters: Filters, limit: int | None = None) -> Draft:
        """Plan without writing anything; what dies from now on is not in it."""
        ledger = await self._letters.ledger()
        planner = Planner(kind)
        async for found in self._letters.everything(filters, ledger):
            planner.consider(_candidate(found, filters))
        return Draft(kind, filters, planner.plan(limit), ledger)

    async def start(self, draft: Draft, operation_id: str, *, reason: str = "") -> Operation:
        """Claim what was planned; entries that somebody else took or settled meanwhile are left out."""
        topics = {self._letters.family(where.topic).replays for where in draft.plan.offsets}
        operation = Operation(
            id=operation_id,
            kind=draft.kind,
            by=self._by,
            at=int(self._clock.time() * 1000),
            reason=reason,
            filters=_shown(draft.filters),
            ends=_by_topic(await self._letters.reader.ends(sorted(topics))),
        )
        if missing := topics - operation.ends.keys():
            raise DeadLetterError(f"the topic {min(missing)} does not exist: run `keylane topics apply`")
        await self._publisher.publish(operation.message)
        for claim in _claims(draft.plan, operation_id):
            await self._publisher.publish(claim.message)
        return await self._settle_claims(operation, draft.ledger)

    async def resume(self, kind: Kind, operation_id: str) -> Operation:
        """Take over what a killed process left.

        Raises:
            DeadLetterError: There is no such operation, it has finished, or somebody works on it.
        """
        ledger = await self._letters.ledger()
        found = _unfinished(ledger, kind, operation_id)
        await self._clock.sleep(ARRIVAL if self._ended(found.by) else SILENCE)
        await self._letters.refresh(ledger)
        if _unfinished(ledger, kind, operation_id).beat != found.beat:
            raise DeadLetterError(f"{found.name} is being worked on by {found.by}: wait for it, or stop it first")
        taken = replace(found, by=self._by, beat=found.beat + 1)
        await self._publisher.publish(taken.message)
        return taken if taken.claims else await self._settle_claims(taken, ledger)

    async def _settle_claims(self, operation: Operation, ledger: Ledger) -> Operation:
        await self._letters.refresh(ledger)
        claims = ledger.claims(operation.id)
        won = [ledger.won(claim) for claim in claims]
        for before, after in zip(claims, won, strict=True):
            if before != after:
                await self._publisher.publish(after.message)
        settled = replace(operation, claims=len(won), entries=sum(len(claim.offsets) for claim in won))
        await self._publisher.publish(settled.message)
        return settled

    async def run(
        self, operation: Operation, *, rate: float = 0.0, progress: Callable[[int], None] = lambda _: None
    ) -> Report:
        """Write what has not been written yet.

        Args:
            operation: As started or resumed.
            rate: Entries per second, 0 for no limit.
            progress: Called with 1 for each entry dealt with.

        Raises:
            TransientError: The broker did not acknowledge; resume it later.
            DeadLetterError: Somebody else took the operation over.
        """
        ledger = await self._letters.ledger()
        pulse = Pulse(self._letters, self._publisher, self._clock, operation, ledger)
        writer = Writer(self._publisher, self._clock, rate=rate, alive=pulse.beat)
        run = Run(operation, self._letters, writer, await self._written(operation))
        for claim in ledger.claims(operation.id):
            await run.work(claim, progress)
        await self._publisher.publish(finished(pulse.operation).message)
        return run.report

    async def _written(self, operation: Operation) -> dict[Where, set[int]]:
        """What an earlier run wrote, read back from the replay topics."""
        written: dict[Where, set[int]] = defaultdict(set)
        reader, topics = self._letters.reader, sorted(operation.ends)
        ends, starts = await reader.ends(topics), await reader.starts(topics)
        since = {place: operation.ends[place.topic][str(place.partition)] for place in ends}
        if expired := [place for place in ends if starts[place] > since[place]]:
            raise DeadLetterError(
                f"{operation.name} cannot go on: {expired[0].topic} has lost records it wrote to their retention"
            )
        async for batch in reader.read(since, ends):
            for record in batch:
                place = h.parse_place(h.header(record.headers, h.FROM))
                if place is not None and h.text(record.headers, h.REPLAY_ID) == operation.id:
                    written[Where(record.topic, record.partition)].add(place.offset)
        return written


def _unfinished(ledger: Ledger, kind: Kind, operation_id: str) -> Operation:
    operation = ledger.operations.get(operation_id)
    if operation is None or operation.kind != kind:
        raise DeadLetterError(f"there is no {kind} {operation_id}")
    if operation.status == "finished":
        raise DeadLetterError(f"{operation.name} has finished: there is nothing to resume")
    return operation


def _candidate(found: Found, filters: Filters) -> Candidate:
    entry = found.entry
    return Candidate(
        where=entry.where,
        offset=entry.offset,
        generation=entry.generation,
        key=entry.record.key,
        held=entry.held,
        state=entry.state,
        wanted=filters.match(entry),
        operation=entry.operation if entry.unfinished else None,
        twin=found.twin,
    )


def _claims(plan: Plan, operation_id: str) -> Iterator[Claim]:
    numbers = count()
    for where, offsets in plan.offsets.items():
        twins = plan.twins.get(where, {})
        for part in _ascending(offsets):
            with_twins = {offset: twins[offset] for offset in part if offset in twins}
            yield Claim(operation_id, next(numbers), where, part, twins=with_twins)


def _ascending(offsets: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The offsets cut where they step back (to an earlier generation), so that each part can be read in one go."""
    part: list[int] = []
    for offset in offsets:
        if part and (len(part) == CLAIM_SIZE or offset < part[-1]):
            yield tuple(part)
            part = []
        part.append(offset)
    if part:
        yield tuple(part)


def _by_topic(ends: Mapping[TopicPartition, int]) -> dict[str, dict[str, int]]:
    topics: dict[str, dict[str, int]] = defaultdict(dict)
    for (topic, partition), end in ends.items():
        topics[topic][str(partition)] = end
    return dict(topics)


def _shown(filters: Filters) -> dict[str, Any]:
    values = {**asdict(filters), "states": sorted(filters.states), "refs": sorted(filters.refs)}
    return {name: value for name, value in values.items() if value not in (None, [])}

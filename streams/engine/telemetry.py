"""All that one group tells the outside about its work: metrics, log lines, job statuses. The only place that does.

Invariant: telling never changes what happens to a record.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from streams.core import headers
from streams.core.commands import SUCCEEDED, DeadLetter
from streams.core.headers import SOURCE, format_level
from streams.deadletters.ledger import state_message
from streams.engine.messages import finished_entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streams.core.commands import Append, Result
    from streams.core.gaps import Gap, Reason
    from streams.core.replay import State
    from streams.core.standing import Figures
    from streams.core.track import Entry
    from streams.engine.outbox import Outbox
    from streams.engine.tracker import Tracker
    from streams.metrics import Metrics
    from streams.ports import Context, Message, TopicPartition, Tracing

log = structlog.get_logger(__name__)

# What happened, and what the operator does about it.
_GAPS: dict[Reason, str] = {
    "new": "a group without commits begins at the start of the log; if it is not new, its offsets were deleted",
    "missing": "the group's committed offsets are gone, so its records run again from the start of the log; see why "
    "they went (offsets.retention.minutes, a deleted group or topic) and look at 'keylane dlt ls'",
    "expired": "the log dropped records before the group finished them: they are lost to it; publish them again from "
    "their source, and raise retention.ms or add workers",
    "beyond": "the log ends before the group's commit: the topic was made anew or cut off, so it is read from its "
    "start; see what the broker says of it, and whether all that was published is there",
}
_STATE_BYTES = 500  # of a dead letter's state, roughly


@dataclass(slots=True)
class _Runs:
    """Runs of one type and outcome that the metrics do not show yet."""

    records: int = 0
    seconds: list[float] = field(default_factory=list)


class Telemetry:
    """Tells about one group.

    Args:
        outbox: Takes the records that tell of it.
        tracker: Tells of jobs; None for groups whose records are no jobs.
        dlt: The group's dead-letter topic: records of it that finish after a replay or behind one are told of.
        tracing: Makes a span of each commit; None where nobody wants any.
    """

    def __init__(
        self,
        group: str,
        metrics: Metrics,
        outbox: Outbox,
        tracker: Tracker | None,
        dlt: str,
        tracing: Tracing | None = None,
    ) -> None:
        self._group = group
        self._metrics = metrics
        self._outbox = outbox
        self._tracker = tracker
        self._dlt = dlt
        self._tracing = tracing
        self._runs: dict[tuple[str, bool], _Runs] = {}
        self._moves: dict[tuple[str, int], int] = {}  # those that the metrics do not show yet, by cause and tier
        self.tracking = tracker is not None
        """Whether runs are to be told of with :meth:`started`."""

    @property
    def full(self) -> bool:
        """Whether statuses wait to be stored faster than they are: no run begins before :meth:`room` returns."""
        return self.tracking and self._outbox.full

    async def room(self) -> None:
        """Wait until there is room for what is told of a run."""
        while self._outbox.full:
            await self._outbox.flush()

    def started(self, entry: Entry, context: Context, payload: Any) -> None:
        """A run begins."""
        if self._tracker is not None:
            self._tracker.processing(entry, context, payload)

    def ended(self, name: str, result: Result, seconds: float, records: int) -> None:
        """A run of so many records ended; it shows in the metrics from the next :meth:`tally` on."""
        runs = self._runs.get((name, result is SUCCEEDED))
        if runs is None:
            runs = self._runs[name, result is SUCCEEDED] = _Runs()
        runs.seconds.append(seconds)
        runs.records += records

    def tally(self) -> None:
        """Count runs that ended, and moves, since the last time: thousands of records a second, so not one by one."""
        for (cause, tier), moves in self._moves.items():
            if cause == "failed":
                self._metrics.inc("keylane_retries_total", moves, group=self._group, tier=str(tier))
            else:
                self._metrics.inc("keylane_followers_total", moves, group=self._group)
        self._moves.clear()
        for (name, done), runs in self._runs.items():
            if runs.records:
                outcome = "done" if done else "failed"
                self._metrics.inc(
                    "keylane_records_processed_total", runs.records, group=self._group, type=name, outcome=outcome
                )
                self._metrics.observe_all(
                    "keylane_processing_duration_seconds", runs.seconds, group=self._group, type=name
                )
                runs.records, runs.seconds = 0, []

    def completed(self, entry: Entry, context: Context, result: Any) -> None:
        """A record is done for good."""
        self._settled(entry, "resolved")
        if self._tracker is not None:
            self._tracker.completed(entry, context, result)

    def cancelled(self, entry: Entry, context: Context, *, ran: bool) -> None:
        """A record ends as it was cancelled, in a run or before it."""
        self._metrics.inc("keylane_records_processed_total", group=self._group, type=context.type, outcome="cancelled")
        self._settled(entry, "discarded", "cancelled")
        if self._tracker is not None:
            self._tracker.cancelled(entry, context, ran=ran)

    def _settled(self, entry: Entry, state: State, reason: str = "") -> None:
        """Say what became of a dead letter, if the record is a copy of one, or one itself."""
        ref = None if entry.level is SOURCE else finished_entry(entry.record, self._dlt)
        if ref is not None:
            self._outbox.put(lambda: self._state(ref, entry, state, reason), _STATE_BYTES)

    async def _state(self, ref: str, entry: Entry, state: State, reason: str) -> Message:
        replay_id = headers.text(entry.record.headers, headers.REPLAY_ID) or ""
        at = int(time.time() * 1000)
        return state_message(ref, state, at=at, replay_id=replay_id, by=self._group, reason=reason)

    def blocked(self, name: str, reason: str) -> None:
        """Something outside is away; the attempt does not count."""
        self._metrics.inc("keylane_records_processed_total", group=self._group, type=name, outcome="blocked")
        log.warning("waiting for something outside", group=self._group, type=name, reason=reason)

    def moved(self, move: Append | DeadLetter) -> None:
        """A record leaves its place; it shows in the metrics from the next :meth:`tally` on."""
        if isinstance(move, DeadLetter):
            self._dead(move)
        elif move.failure is not None:
            self._count("failed", move.level.tier)
            if self._tracker is not None:
                self._tracker.moved(move.entry, move.failure, move.due)
        else:
            self._count("follows", move.level.tier)

    def _count(self, cause: str, tier: int) -> None:
        self._moves[cause, tier] = self._moves.get((cause, tier), 0) + 1

    def _dead(self, move: DeadLetter) -> None:
        failure = move.failure
        self._metrics.inc("keylane_dead_letters_total", group=self._group, classification=failure.classification)
        log.error(
            "dead letter",
            group=self._group,
            type=failure.handler,
            topic=failure.topic,
            partition=failure.partition,
            offset=failure.offset,
            attempts=failure.attempts,
            classification=failure.classification,
            exception=failure.exception,
            level=format_level(move.level),
        )
        if self._tracker is not None:
            self._tracker.moved(move.entry, failure, None)

    @contextmanager
    def committing(self, topic: str) -> Iterator[None]:
        """Around a commit of the group that reads this topic."""
        if self._tracing is None:
            yield
            return
        span = self._tracing.start(f"commit {topic}", "client")
        span.put("messaging.system", "kafka")
        span.put("messaging.operation.name", "commit")
        span.put("messaging.operation.type", "settle")
        span.put("messaging.destination.name", topic)
        span.put("messaging.consumer.group.name", self._group)
        with span.current():
            try:
                yield
            except asyncio.CancelledError:  # it took too long
                span.failed("CancelledError")
                raise

    def committed(self, result: str, seconds: float) -> None:
        """A commit ended: ``ok``, ``lost`` or ``failed``."""
        self._metrics.inc("keylane_commits_total", group=self._group, result=result)
        self._metrics.observe("keylane_commit_duration_seconds", seconds, group=self._group)

    def jumped(self, place: TopicPartition, gap: Gap) -> None:
        """A partition is not read on where the group stood."""
        self._metrics.inc("keylane_offset_jumps_total", group=self._group, topic=place.topic, reason=gap.reason)
        self._metrics.inc("keylane_log_gap_records_total", gap.dropped, group=self._group, topic=place.topic)
        (log.warning if gap.reason == "new" else log.error)(
            _GAPS[gap.reason],
            group=self._group,
            topic=place.topic,
            partition=place.partition,
            stood=gap.stood,
            begin=gap.begin,
            dropped=gap.dropped,
        )

    def rebalanced(self, partitions: int) -> None:
        """Partitions were taken over."""
        self._metrics.inc("keylane_rebalances_total", group=self._group)
        log.info("partitions taken over", group=self._group, partitions=partitions)

    def rebuilt(self, reason: str) -> None:
        """The consumer stood still or a write failed: the ownership is built anew."""
        self._metrics.inc("keylane_watchdog_rebuilds_total", group=self._group)
        log.warning("rebuilding the consumer", group=self._group, reason=reason)

    def standing(self, found: Figures, now: float) -> None:
        """Where the group stands now, seconds since the epoch."""
        age = 0.0 if found.oldest is None else max(0.0, now - found.oldest / 1000)
        for name, value in (
            ("keylane_in_flight", found.running),
            ("keylane_waiting", found.waiting),
            ("keylane_oldest_waiting_seconds", age),
            ("keylane_parked", found.parked),
            ("keylane_due", found.due),
            ("keylane_held_keys", found.held_keys),
            ("keylane_paused_partitions", found.paused),
            ("keylane_fenced_records", found.fenced),
        ):
            self._metrics.set(name, value, group=self._group)

    def lag(self, behind: Mapping[str, int]) -> None:
        """Records behind the commit, by topic."""
        for topic, count in behind.items():
            self._metrics.set("keylane_lag", count, group=self._group, topic=topic)

    async def flush(self) -> None:
        """Wait until what was told of the work is stored."""
        await self._outbox.flush()

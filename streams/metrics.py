"""All metrics of keylane in one table, and the port through which code counts.

Invariant: a name or label outside the table is an error; no label holds an id, a key or anything a client chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Kind = Literal["counter", "gauge", "histogram"]

# Upper bounds in seconds.
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_WORK = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table; ``buckets`` are the upper bounds of a histogram."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


TABLE: tuple[Metric, ...] = (
    # The gateway. ``route`` is the pattern (``/api/v1/jobs/{id}``), never the path.
    Metric("keylane_http_requests_total", "counter", ("method", "route", "status"), "HTTP requests answered."),
    Metric(
        "keylane_http_request_duration_seconds", "histogram", ("method", "route"), "From headers to answer.", _REQUEST
    ),
    Metric("keylane_accepted_total", "counter", ("kind", "type"), "Events and jobs the broker has acknowledged."),
    Metric("keylane_refused_total", "counter", ("problem",), "Requests answered with a problem, by its kind."),
    Metric(
        "keylane_authentications_total",
        "counter",
        ("mode", "outcome"),
        "Requests to guarded routes, by how they proved who sent them (none, key, hmac, jwt): ok, or why not.",
    ),
    Metric("keylane_enqueue_duration_seconds", "histogram", ("kind",), "From record to acknowledgement.", _REQUEST),
    Metric("keylane_unacknowledged", "gauge", (), "Records sent to the broker and not acknowledged yet."),
    Metric("keylane_unacknowledged_bytes", "gauge", (), "Their bytes."),
    Metric(
        "keylane_idempotency_total",
        "counter",
        ("outcome",),
        "Requests with an Idempotency-Key: new, replayed, in-flight, reused, unchecked (Redis was away).",
    ),
    # What is told live.
    Metric("keylane_live_subscribers", "gauge", (), "Those who are told what happens, as it happens."),
    Metric(
        "keylane_live_dropped_total", "counter", ("reason",), "Those told no more: slow, stuck, cut, renew, stopping."
    ),
    Metric("keylane_live_unreadable_total", "counter", ("topic",), "Records passed over, as nobody can read them."),
    # The engine: what a consumer group does with its records. ``type`` is that of a declared handler.
    Metric(
        "keylane_records_processed_total",
        "counter",
        ("group", "type", "outcome"),
        "Runs of handlers by outcome: done, failed, blocked (something outside was away), cancelled (or before a run).",
    ),
    Metric("keylane_processing_duration_seconds", "histogram", ("group", "type"), "One run of a handler.", _WORK),
    Metric("keylane_in_flight", "gauge", ("group",), "Records whose handlers run now."),
    Metric("keylane_waiting", "gauge", ("group",), "Records held in memory whose handlers do not run yet."),
    Metric(
        "keylane_oldest_waiting_seconds",
        "gauge",
        ("group",),
        "Since the oldest record in memory that is not finished was published; 0 where there is none.",
    ),
    Metric("keylane_parked", "gauge", ("group",), "Records that wait in retry topics."),
    Metric("keylane_due", "gauge", ("group",), "Records of retry topics in memory whose time has come."),
    Metric("keylane_lag", "gauge", ("group", "topic"), "Records behind the committed offset."),
    Metric("keylane_retries_total", "counter", ("group", "tier"), "Failed records moved to a retry tier."),
    Metric("keylane_followers_total", "counter", ("group",), "Records moved behind an earlier one of their key."),
    Metric("keylane_fenced_records", "gauge", ("group",), "Records of an owner before us that were passed over."),
    Metric("keylane_dead_letters_total", "counter", ("group", "classification"), "Records given up, by reason."),
    Metric("keylane_commits_total", "counter", ("group", "result"), "Offset commits: ok, failed, lost."),
    Metric("keylane_commit_duration_seconds", "histogram", ("group",), "One offset commit.", _REQUEST),
    Metric("keylane_log_gap_records_total", "counter", ("group", "topic"), "Records the log dropped unfinished."),
    Metric(
        "keylane_offset_jumps_total",
        "counter",
        ("group", "topic", "reason"),
        "Partitions not read on where the group stood: new, missing (its commits), expired, beyond (the log's end).",
    ),
    Metric("keylane_rebalances_total", "counter", ("group",), "Assignments received."),
    Metric("keylane_paused_partitions", "gauge", ("group",), "Partitions that are not fetched for now."),
    Metric("keylane_held_keys", "gauge", ("group",), "Keys whose records wait behind a dead letter."),
    Metric("keylane_watchdog_rebuilds_total", "counter", ("group",), "Consumers rebuilt because they stood still."),
    # Effects.
    Metric("keylane_effect_intents_total", "counter", ("group",), "Runs of handlers marked once, by intent."),
    Metric("keylane_effects_recognised_total", "counter", ("group",), "Runs not made: the effect was finished before."),
    Metric(
        "keylane_effects_reconciled_total",
        "counter",
        ("group", "answer"),
        "Look-ups at providers by answer: done, not-done, unknown.",
    ),
    Metric(
        "keylane_effects_fenced_total",
        "counter",
        ("group", "at"),
        "Runs that another one took the effect from, found at: confirm (before sending) or outcome.",
    ),
    Metric("keylane_requests_recognised_total", "counter", ("group",), "Records not run: done before under their key."),
    Metric("keylane_emails_total", "counter", ("transport", "outcome"), "E-mails by outcome: sent, refused, failed."),
    Metric("keylane_email_send_duration_seconds", "histogram", ("transport",), "One e-mail handed over.", _WORK),
    Metric("keylane_periodic_runs_total", "counter", ("name", "outcome"), "Periodic work by outcome: done, failed."),
    Metric("keylane_periodic_duration_seconds", "histogram", ("name",), "One run of periodic work.", _WORK),
    Metric(
        "keylane_periodic_lag_seconds",
        "gauge",
        ("name",),
        "How long overdue the oldest was that the last run found; 0 where there was none, or another process works.",
    ),
    # The process itself (memory, CPU time, start time, descriptors, garbage collection) is added by prometheus-client.
)


class Sample(NamedTuple):
    """One number; of a histogram the name ends with ``_bucket``, ``_sum`` or ``_count``."""

    name: str
    labels: Mapping[str, str]
    value: float


class Shown(NamedTuple):
    """A metric as it stands."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


class Metrics(Protocol):
    """Counts and measures; every name is in ``TABLE``, with exactly its labels."""

    def inc(self, name: str, /, amount: float = 1, **labels: str) -> None:
        """Add to a counter or gauge."""

    def set(self, name: str, /, value: float, **labels: str) -> None:
        """Set a gauge."""

    def watch(self, name: str, value: Callable[[], float], /) -> None:
        """Let a gauge without labels show what ``value`` gives when it is looked at: for what changes all the time."""

    def observe(self, name: str, /, value: float, **labels: str) -> None:
        """Add an observation to a histogram."""

    def observe_all(self, name: str, values: Sequence[float], /, **labels: str) -> None:
        """Add many observations to a histogram at once: for what happens thousands of times a second."""

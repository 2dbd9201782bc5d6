"""What the gateway shows of jobs, dead letters and itself, as models for ``/openapi.json``. Times are RFC 3339."""

from __future__ import annotations

from typing import Any, Literal

from streams.gateway.models import Answer


class JobView(Answer):
    """A job as far as it is known; partition and offset are null until a worker has seen it. Times are RFC 3339."""

    id: str
    type: str
    queue: str
    tenant: str
    key: str | None
    status: Literal["pending", "processing", "retrying", "completed", "failed", "dead", "cancelled"]
    attempt: int
    replays: int
    payload: Any
    result: Any
    error: str | None
    worker: str | None
    topic: str
    partition: int | None
    offset: int | None
    created_at: str
    started_at: str | None
    updated_at: str
    finished_at: str | None
    due_at: str | None


class JobList(Answer):
    """A page of jobs; ``cursor`` leads to the next one, null where there is none."""

    jobs: list[JobView]
    cursor: str | None


class AttemptView(Answer):
    """One run; ``outcome`` is the status it led to. ``replay``: how often the job had been replayed by then."""

    number: int
    replay: int
    started_at: str | None
    ended_at: str | None
    outcome: str
    error: str | None
    worker: str | None


class JobDetail(JobView):
    """A job with its attempts, the latest first; of very many the last 50 or more."""

    attempts: list[AttemptView]


class Place(Answer):
    """Where a record was first published; ``timestamp`` in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int


class DeadLetterView(Answer):
    """A record that was given up; ``ref`` names it for the command line, ``held``: its key waits behind it.

    ``operation`` names the replay or discard that took it, ``unfinished`` tells that it has still to finish.
    """

    ref: str
    group: str
    topic: str
    tenant: str
    key: str | None
    type: str
    state: str
    classification: str
    exception: str
    message: str
    failed_at: str
    attempts: int | None
    replays: int
    held: bool
    operation: str | None
    unfinished: bool
    origin: Place | None


class DeadLetterList(Answer):
    """Dead letters, newest first; ``more`` tells that the limit cut the list."""

    entries: list[DeadLetterView]
    more: bool


class DependencyView(Answer):
    """One dependency; ``needed``: without it nothing is accepted."""

    status: Literal["up", "down"]
    needed: bool
    detail: str | None


class Memory(Answer):
    """Of this process, in bytes."""

    resident_bytes: int
    peak_bytes: int


class HealthView(Answer):
    """``degraded``: something is down without which the gateway still accepts."""

    status: Literal["up", "degraded", "down"]
    version: str
    uptime_seconds: float
    dependencies: dict[str, DependencyView]
    memory: Memory


class ProbeView(Answer):
    """The answer to an orchestrator's probe."""

    status: Literal["up", "down"]

"""A job's row in the history: how its statuses, in any order and any number of times, add up to one row.

Invariant: the row of a job does not depend on the order, the grouping or the repetition of its statuses. Clients choose
ids, so a job is known by its id and its tenant together: no tenant's statuses touch the row of another's job.
``streams/adapters/sql.py`` states the same rule in SQL.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.job_status.model import Status

GROUP = "history"
TOPIC = "job-status"
PARTITIONS = 8
CONTRACT_NAME = "job.status"

_RANKS = ("pending", "processing", "retrying", "failed", "completed", "dead", "cancelled")
_FINISHED = {"failed", "completed", "dead", "cancelled"}
_MAX_ATTEMPT = 99_999
_ATTEMPT, _REPLAY = 10, 1_000_000
MOST_STEPS = 100  # kept per job: 50 attempts, or more of those that were over before their beginning was told
_LONGEST_ERROR = 300  # characters, of a step
# What PostgreSQL's text and JSONB do not hold: NUL, and halves of surrogate pairs (as characters or JSON escapes).
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class Step(NamedTuple):
    """A step of an attempt: when it was, and when the run began, if that step has to tell it."""

    sequence: int
    at: int
    began: int | None
    worker: str | None
    error: str | None


class Attempt(NamedTuple):
    """One run of a job; ``outcome`` is the status it led to, ``processing`` while it runs."""

    number: int
    replay: int
    started_at: int | None
    ended_at: int | None
    outcome: str
    error: str | None
    worker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as far as it is known.

    Attributes:
        sequence: Grows with every step of the life of a job; the largest one decides the status.
        entity: The record key without its tenant.
        payload: JSON text, as is ``result``.
        topic: Where the job stands in the log, with ``partition`` and ``offset`` (-1: not told yet).
        created_at: Milliseconds since the epoch, as are all times.
        due_at: When a job that is ``retrying`` may run again.
        steps: The last steps of its attempts, the latest first.
    """

    job_id: str
    type: str
    queue: str
    tenant: str
    key: str | None
    entity: str | None
    status: str
    sequence: int
    attempt: int
    replays: int
    payload: str | None
    result: str | None
    error: str | None
    stack: str | None
    worker: str | None
    topic: str
    partition: int
    offset: int
    created_at: int
    started_at: int | None
    updated_at: int
    finished_at: int | None
    due_at: int | None = None
    steps: tuple[Step, ...] = ()

    @property
    def identity(self) -> tuple[str, str]:
        """What no other job has."""
        return self.job_id, self.tenant

    @property
    def attempts(self) -> list[Attempt]:
        """The runs, the latest first, as far as their steps are kept."""
        found: dict[int, list[Step]] = {}
        for step in self.steps:
            found.setdefault(step.sequence // _ATTEMPT, []).append(step)
        return [_attempt(number, steps) for number, steps in found.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilters:
    """Which jobs are meant; what is None does not restrict. ``key`` is the whole record key.

    Attributes:
        created_after: From this time on, milliseconds since the epoch.
        created_before: Before this one.
    """

    tenant: str | None = None
    type: str | None = None
    queue: str | None = None
    status: str | None = None
    key: str | None = None
    created_after: int | None = None
    created_before: int | None = None


def status_key(tenant: str, job_id: str) -> bytes:
    """The record key of the statuses of a job: no other tenant's job has it, so compaction keeps the last of each."""
    return f"{tenant}/{job_id}".encode()


class Mark(NamedTuple):
    """Where a page of a list ends: lists go from the newest job to the oldest."""

    created_at: int
    job_id: str


def is_finished(status: str) -> bool:
    """Whether a job of this status will not go on by itself."""
    return status in _FINISHED


def sequence(status: str, attempt: int, replays: int) -> int:
    """The order of the steps of a job's life: replays, then attempts, then the status within an attempt."""
    return replays * _REPLAY + min(attempt, _MAX_ATTEMPT) * _ATTEMPT + _RANKS.index(status)


def row(status: Status) -> JobRow:
    """What one status says."""
    return JobRow(
        job_id=_text(status.job_id),
        type=_text(status.type),
        queue=_text(status.queue),
        tenant=_text(status.tenant),
        key=_optional(status.key),
        entity=_optional(_entity(status)),
        status=status.status,
        sequence=sequence(status.status, status.attempt, status.replays),
        attempt=status.attempt,
        replays=status.replays,
        payload=_json(status.payload),
        result=_json(status.result),
        error=_optional(status.error),
        stack=_optional(status.stack),
        worker=_optional(status.worker),
        topic=_text(status.topic),
        partition=status.partition,
        offset=status.offset,
        created_at=status.time if status.started is None else min(status.started, status.time),
        started_at=status.time if status.status == "processing" else status.started,
        updated_at=status.time,
        finished_at=status.time if status.status in _FINISHED else None,
        due_at=status.due,
        steps=_steps(status),
    )


def _steps(status: Status) -> tuple[Step, ...]:
    if status.attempt < 1:
        return ()
    number = sequence(status.status, status.attempt, status.replays)
    error = _optional(status.error and status.error[:_LONGEST_ERROR])
    return (Step(number, status.time, status.started, _optional(status.worker), error),)


def merged_steps(known: tuple[Step, ...], new: tuple[Step, ...]) -> tuple[Step, ...]:
    """The latest of both; of a step that was told twice the first report stands."""
    found = {step.sequence: step for step in sorted((*new, *known), key=lambda step: step.at, reverse=True)}
    return tuple(found[number] for number in sorted(found, reverse=True)[:MOST_STEPS])


def _attempt(group: int, steps: list[Step]) -> Attempt:
    """Of its steps, the latest first. A job that is cancelled while it waits leaves the attempt before as it was."""
    ends = [step for step in steps if _status(step) != "processing"]
    last = next((step for step in ends if _status(step) != "cancelled"), (ends or steps)[0])
    begins = [step.at for step in steps if _status(step) == "processing"]
    begins += [step.began for step in steps if step.began is not None]
    return Attempt(
        number=group % (_REPLAY // _ATTEMPT),
        replay=group // (_REPLAY // _ATTEMPT),
        started_at=min(begins, default=None),
        ended_at=last.at if ends else None,
        outcome=_status(last),
        error=last.error,
        worker=last.worker,
    )


def _status(step: Step) -> str:
    return _RANKS[step.sequence % _ATTEMPT]


def merged(rows: Iterable[JobRow]) -> list[JobRow]:
    """One row per job."""
    found: dict[tuple[str, str], JobRow] = {}
    for each in rows:
        known = found.get(each.identity)
        found[each.identity] = each if known is None else merge(known, each)
    return list(found.values())


def merge(known: JobRow, new: JobRow) -> JobRow:
    """What two rows of a job say together: the later step decides, the earliest times stay."""
    decisive = new if _order(new) > _order(known) else known
    return replace(
        decisive,
        payload=new.payload if known.payload is None else known.payload,
        partition=max(known.partition, new.partition),
        offset=max(known.offset, new.offset),
        created_at=min(known.created_at, new.created_at),
        started_at=_least(known.started_at, new.started_at),
        steps=merged_steps(known.steps, new.steps),
    )


def _order(row: JobRow) -> tuple[int, int]:
    # A step that was repeated after a crash has the same sequence: the first report of it stands.
    return row.sequence, -row.updated_at


def _entity(status: Status) -> str | None:
    tenant, slash, entity = (status.key or "").partition("/")
    return entity if slash and tenant == status.tenant else status.key


def _least(one: int | None, other: int | None) -> int | None:
    return min((time for time in (one, other) if time is not None), default=None)


def storable(value: str) -> str:
    """The text as it is stored."""
    return _text(value)


def _text(value: str) -> str:
    return _UNSTORABLE.sub("\ufffd", value)


def _optional(value: str | None) -> str | None:
    return None if value is None else _text(value)


def _json(text: str | None) -> str | None:
    """The JSON text without what cannot be stored; text that is not JSON (NaN included) becomes a JSON string."""
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return json.dumps(_text(text))
    return _text(text) if not _ESCAPED.search(text) else json.dumps(_cleaned(value), ensure_ascii=False)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    if isinstance(value, dict):
        return {_text(name): _cleaned(each) for name, each in value.items()}
    return value

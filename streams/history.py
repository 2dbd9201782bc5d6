"""A job's row in the history: how its statuses, in any order and any number of times, add up to one row.

Invariant: the row of a job does not depend on the order, the grouping or the repetition of its statuses.
``streams/adapters/sql.py`` states the same rule in SQL.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
# What PostgreSQL's text and JSONB do not hold: NUL, and halves of surrogate pairs (as characters or JSON escapes).
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as far as it is known.

    Attributes:
        sequence: Grows with every step of the life of a job; the largest one decides the status.
        entity: The record key without its tenant.
        payload: JSON text, as is ``result``.
        topic: Where the job stands in the log, with ``partition`` and ``offset`` (-1: not told yet).
        created_at: Milliseconds since the epoch, as are all times.
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
    )


def merged(rows: Iterable[JobRow]) -> list[JobRow]:
    """One row per job."""
    found: dict[str, JobRow] = {}
    for each in rows:
        known = found.get(each.job_id)
        found[each.job_id] = each if known is None else merge(known, each)
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
    )


def _order(row: JobRow) -> tuple[int, int]:
    # A step that was repeated after a crash has the same sequence: the first report of it stands.
    return row.sequence, -row.updated_at


def _entity(status: Status) -> str | None:
    tenant, slash, entity = (status.key or "").partition("/")
    return entity if slash and tenant == status.tenant else status.key


def _least(one: int | None, other: int | None) -> int | None:
    return min((time for time in (one, other) if time is not None), default=None)


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

"""The requests of the gateway's API, as values: what to send, and how to read the answer.

Both clients send the same calls. Invariant: a call that takes something in bears an ``Idempotency-Key``, so that it may
be sent again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from streams.gateway.batches import BatchAnswer
from streams.gateway.ids import uuid7
from streams.gateway.keys import KeyCreated, KeyList, KeyView
from streams.gateway.letterviews import LetterDetail, LetterList, OperationView
from streams.gateway.models import EventAccepted, JobAccepted
from streams.gateway.views import DeadLetterView, JobDetail, JobList, JobView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import BaseModel

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")
Json = dict[str, Any]
JSON = "application/json"
BATCH = "application/cloudevents-batch+json"


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request.

    Attributes:
        target: Path and query.
        read: Makes the result of a successful answer's status and JSON.
        repeatable: Whether sending it twice has one effect.
    """

    method: str
    target: str
    read: Callable[[int, Any], T]
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; ``next`` asks for the one behind it."""

    items: list[T]
    next: Call[Page[T]] | None


def submit(
    type_name: str, payload: Any, *, wait: float | None = None, idempotency_key: str | None = None, **options: Any
) -> Call[JobAccepted | JobView]:
    """Submit a job; with ``wait`` the answer may be the finished job."""
    body = {"type": type_name, "payload": payload, **_given(options)}
    return _taken_in(_with("/api/v1/jobs", wait=wait), body, idempotency_key, _accepted)


def submit_many(jobs: Sequence[Json], *, idempotency_key: str | None = None) -> Call[BatchAnswer]:
    """Submit jobs in one request; each has its own result."""
    return _taken_in("/api/v1/jobs:batch", {"jobs": list(jobs)}, idempotency_key, _as(BatchAnswer))


def publish(type_name: str, data: Any, *, idempotency_key: str | None = None, **options: Any) -> Call[EventAccepted]:
    """Publish an event."""
    body = {"type": type_name, "data": data, **_given(options)}
    return _taken_in("/api/v1/events", body, idempotency_key, _as(EventAccepted))


def publish_many(events: Sequence[Json], *, idempotency_key: str | None = None) -> Call[BatchAnswer]:
    """Publish CloudEvents in one request; each has its own result."""
    return _taken_in("/api/v1/events", list(events), idempotency_key, _as(BatchAnswer), BATCH)


def job(job_id: str) -> Call[JobDetail]:
    """Look at a job."""
    return Call("GET", f"/api/v1/jobs/{_path(job_id)}", _as(JobDetail))


def jobs(**filters: Any) -> Call[Page[JobView]]:
    """List jobs, newest first."""
    query = _given(filters)

    def read(_: int, found: Any) -> Page[JobView]:
        page = JobList.model_validate(found)
        return Page(page.jobs, jobs(**{**query, "cursor": page.cursor}) if page.cursor else None)

    return Call("GET", _with("/api/v1/jobs", **query), read)


def cancel(job_id: str) -> Call[JobDetail]:
    """Cancel a job."""
    return Call("POST", f"/api/v1/jobs/{_path(job_id)}/cancel", _as(JobDetail))


def retry(job_id: str) -> Call[JobDetail]:
    """Run a dead job again."""
    return Call("POST", f"/api/v1/jobs/{_path(job_id)}/retry", _as(JobDetail), repeatable=False)


def dead_letters(**filters: Any) -> Call[Page[DeadLetterView]]:
    """List dead letters, newest first."""
    query = _given(filters)

    def read(_: int, found: Any) -> Page[DeadLetterView]:
        page = LetterList.model_validate(found)
        return Page(page.entries, dead_letters(**{**query, "cursor": page.cursor}) if page.cursor else None)

    return Call("GET", _with("/api/v1/dlt", **query), read)


def dead_letter(ref: str) -> Call[LetterDetail]:
    """Look at a dead letter."""
    return Call("GET", f"/api/v1/dlt/{quote(ref)}", _as(LetterDetail))


def replay(**asked: Any) -> Call[OperationView]:
    """Replay dead letters."""
    return _posted("/api/v1/dlt:replay", _given(asked), OperationView)


def discard(**asked: Any) -> Call[OperationView]:
    """Discard dead letters."""
    return _posted("/api/v1/dlt:discard", _given(asked), OperationView)


def operation(operation_id: str) -> Call[OperationView]:
    """Look at a replay or a discard."""
    return Call("GET", f"/api/v1/dlt/operations/{_path(operation_id)}", _as(OperationView))


def stream(filters: Mapping[str, Any], headers: Mapping[str, str]) -> Call[None]:
    """Follow what happens."""
    return Call("GET", _with("/api/v1/stream", **filters), lambda _, __: None, headers=headers)


def keys(**filters: Any) -> Call[list[KeyView]]:
    """List API keys."""
    return Call("GET", _with("/api/v1/keys", **filters), lambda _, found: KeyList.model_validate(found).keys)


def create_key(name: str, scopes: Sequence[str], **options: Any) -> Call[KeyCreated]:
    """Make an API key; not repeated, since an answer that was lost holds a secret nobody has."""
    return _posted("/api/v1/keys", {"name": name, "scopes": list(scopes), **_given(options)}, KeyCreated)


def revoke_key(prefix: str) -> Call[KeyView]:
    """Revoke an API key."""
    return Call("DELETE", f"/api/v1/keys/{_path(prefix)}", _as(KeyView))


def _taken_in(
    target: str, body: Any, key: str | None, read: Callable[[int, Any], T], media_type: str = JSON
) -> Call[T]:
    headers = {"Content-Type": media_type, "Idempotency-Key": f'"{key or uuid7()}"'}
    return Call("POST", target, read, json.dumps(body).encode(), headers)


def _posted(target: str, body: Json, model: type[M]) -> Call[M]:
    return Call("POST", target, _as(model), json.dumps(body).encode(), {"Content-Type": JSON}, repeatable=False)


def _accepted(status: int, found: Any) -> JobAccepted | JobView:
    model: type[JobAccepted | JobView] = JobView if status == HTTPStatus.OK else JobAccepted
    return model.model_validate(found)


def _as(model: type[M]) -> Callable[[int, Any], M]:
    return lambda _, found: model.model_validate(found)


def _given(options: Mapping[str, Any]) -> Json:
    return {name: value for name, value in options.items() if value is not None}


def _with(path: str, **query: Any) -> str:
    given = _given(query)
    return f"{path}?{urlencode(given, quote_via=quote)}" if given else path


def _path(text: str) -> str:
    return quote(text, safe="")

"""The requests of the gateway's API, as values: what to send, and how to read the answer.

Both clients send the same calls. Invariant: a call that takes something in bears an ``Idempotency-Key``, so that it may
be sent again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from streams.gateway.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")
Json = dict[str, Any]
_JSON = {"Content-Type": "application/json"}


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
class Page:
    """One page of a list; ``next`` asks for the one behind it."""

    items: list[Json]
    next: Call[Page] | None


def submit(
    type_name: str, payload: Any, *, wait: float | None = None, idempotency_key: str | None = None, **options: Any
) -> Call[Json]:
    """Submit a job; with ``wait`` the answer may be the finished job."""
    body = {"type": type_name, "payload": payload, **_given(options)}
    target = _with("/api/v1/jobs", wait=wait)
    return _taken_in(target, body, idempotency_key, _itself)


def submit_many(jobs: Sequence[Json], *, idempotency_key: str | None = None) -> Call[list[Json]]:
    """Submit jobs in one request; each has its own result."""
    return _taken_in("/api/v1/jobs:batch", list(jobs), idempotency_key, _results)


def publish(type_name: str, data: Any, *, idempotency_key: str | None = None, **options: Any) -> Call[Json]:
    """Publish an event."""
    return _taken_in("/api/v1/events", {"type": type_name, "data": data, **_given(options)}, idempotency_key, _itself)


def job(job_id: str) -> Call[Json]:
    """Look at a job."""
    return Call("GET", f"/api/v1/jobs/{_path(job_id)}", _itself)


def jobs(**filters: Any) -> Call[Page]:
    """List jobs, newest first."""
    return _page("/api/v1/jobs", "jobs", _given(filters))


def cancel(job_id: str) -> Call[Json]:
    """Cancel a job."""
    return Call("POST", f"/api/v1/jobs/{_path(job_id)}/cancel", _itself)


def retry(job_id: str) -> Call[Json]:
    """Run a dead job again."""
    return Call("POST", f"/api/v1/jobs/{_path(job_id)}/retry", _itself, repeatable=False)


def dead_letters(**filters: Any) -> Call[Page]:
    """List dead letters, newest first."""
    return _page("/api/v1/dlt", "entries", _given(filters))


def dead_letter(ref: str) -> Call[Json]:
    """Look at a dead letter."""
    return Call("GET", f"/api/v1/dlt/{_path(ref)}", _itself)


def replay(**asked: Any) -> Call[Json]:
    """Replay dead letters."""
    return _posted("/api/v1/dlt:replay", _given(asked))


def discard(**asked: Any) -> Call[Json]:
    """Discard dead letters."""
    return _posted("/api/v1/dlt:discard", _given(asked))


def stream(filters: Mapping[str, Any], headers: Mapping[str, str]) -> Call[None]:
    """Follow what happens."""
    return Call("GET", _with("/api/v1/stream", **filters), lambda _, __: None, headers=headers)


def keys(**filters: Any) -> Call[list[Json]]:
    """List API keys."""
    return Call("GET", _with("/api/v1/keys", **_given(filters)), lambda _, found: list(found["keys"]))


def create_key(name: str, scopes: Sequence[str], **options: Any) -> Call[Json]:
    """Make an API key; not repeated, since an answer that was lost holds a secret nobody has."""
    return _posted("/api/v1/keys", {"name": name, "scopes": list(scopes), **_given(options)})


def revoke_key(prefix: str) -> Call[Json]:
    """Revoke an API key."""
    return Call("DELETE", f"/api/v1/keys/{_path(prefix)}", _itself)


def _taken_in(target: str, body: Any, key: str | None, read: Callable[[int, Any], T]) -> Call[T]:
    headers = {**_JSON, "Idempotency-Key": f'"{key or uuid7()}"'}
    return Call("POST", target, read, json.dumps(body).encode(), headers)


def _posted(target: str, body: Json) -> Call[Json]:
    return Call("POST", target, _itself, json.dumps(body).encode(), _JSON, repeatable=False)


def _page(path: str, name: str, query: Mapping[str, Any]) -> Call[Page]:
    def read(_: int, found: Json) -> Page:
        cursor = found.get("next")
        behind = _page(path, name, {**query, "cursor": cursor}) if cursor else None
        return Page(found[name], behind)

    return Call("GET", _with(path, **query), read)


def _itself(_: int, found: Any) -> Json:
    return found  # type: ignore[no-any-return]


def _results(_: int, found: Any) -> list[Json]:
    return found["results"]  # type: ignore[no-any-return]


def _given(options: Mapping[str, Any]) -> Json:
    return {name: value for name, value in options.items() if value is not None}


def _with(path: str, **query: Any) -> str:
    given = _given(query)
    return f"{path}?{urlencode(given, quote_via=quote)}" if given else path


def _path(text: str) -> str:
    return quote(text, safe="")

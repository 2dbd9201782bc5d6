"""How what happens is shown to those who are told live: as models for ``/openapi.json``, and once as text for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from streams.gateway.intake import rfc3339
from streams.gateway.jobs import as_value
from streams.gateway.models import Answer

if TYPE_CHECKING:
    from schemas.job_status.model import Status
    from streams.live.notice import Event, Notice


class JobStep(Answer):
    """A step of a job's life; the job itself, with its payload, is at ``/api/v1/jobs/{id}``."""

    id: str
    type: str
    queue: str
    tenant: str
    key: str | None
    status: Literal["pending", "processing", "retrying", "completed", "failed", "dead", "cancelled"]
    attempt: int
    replays: int
    result: Any
    error: str | None
    worker: str | None
    time: str
    due_at: str | None


class EventShown(Answer):
    """A domain event: its attributes are those of CloudEvents; ``key`` is the whole record key."""

    id: str | None
    type: str | None
    source: str | None
    subject: str | None
    time: str | None
    tenant: str
    key: str | None
    data: Any


class Told(Answer):
    """A message of the WebSocket, and what an event of the stream is made of: its ``event``, ``id`` and ``data``.

    ``kind`` is ``job``, ``event``, ``beat`` (an id to read on behind) or ``gap`` (with a ``reason``).
    """

    kind: str
    id: str | None = None
    data: JobStep | EventShown | None = None
    reason: str | None = None


def text_of(notice: Notice) -> str:
    """The notice as JSON in one line, made once for all who are told."""
    found: str | None = notice.shown.get("text")
    if found is None:
        shown = _step(notice.body) if notice.kind == "job" else _event(notice.body, notice)
        found = notice.shown["text"] = shown.model_dump_json()
    return found


def _step(status: Status) -> JobStep:
    return JobStep(
        id=status.job_id,
        type=status.type,
        queue=status.queue,
        tenant=status.tenant,
        key=status.key,
        status=status.status,
        attempt=status.attempt,
        replays=status.replays,
        result=as_value(status.result),
        error=status.error,
        worker=status.worker,
        time=rfc3339(status.time),
        due_at=None if status.due is None else rfc3339(status.due),
    )


def _event(event: Event, notice: Notice) -> EventShown:
    named = {name: event.attributes.get(name) for name in ("id", "type", "source", "subject", "time")}
    return EventShown(
        **named, tenant=notice.about.tenant or "", key=notice.about.key, data=event.data.model_dump(mode="json")
    )

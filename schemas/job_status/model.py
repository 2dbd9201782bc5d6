"""``job.status``: where a job stands after one step of its life; the newest record per job id is kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.contract import load
from schemas.fields import Int, Long, PayloadModel

State = Literal["pending", "processing", "retrying", "completed", "failed", "dead", "cancelled"]


class Status(PayloadModel):
    """One step of a job's life.

    Attributes:
        job_id: The ``ce_id`` of the job, also the record key.
        tenant: Empty where the record key names none.
        key: The record key as text, None where there is none.
        attempt: Runs so far, 0 before the first.
        replays: How often the job was replayed from its dead letters.
        time: Milliseconds since the epoch.
        topic: Where the job itself stands in the log, with ``partition`` and ``offset``.
        payload: The payload as JSON text.
        result: What the handler returned, as JSON text.
        error: Why the attempt failed.
        stack: The stack trace of the failure.
        worker: Who ran it.
        started: When the run began that this step ended, if it was over before its ``processing`` was written.
        due: When a job that is ``retrying`` may run again.
    """

    job_id: str = Field(min_length=1)
    type: str
    queue: str
    tenant: str
    key: str | None = None
    status: State
    attempt: Int
    replays: Int
    time: Long
    topic: str
    partition: Int
    offset: Long
    payload: str | None = None
    result: str | None = None
    error: str | None = None
    stack: str | None = None
    worker: str | None = None
    started: Long | None = None
    due: Long | None = None


CONTRACT = load(__file__, name="job.status", kind="internal", model=Status)

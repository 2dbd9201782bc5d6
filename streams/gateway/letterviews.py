"""What is shown of dead letters, and of replays and discards, as models for ``/openapi.json``. Times are RFC 3339."""

from __future__ import annotations

from typing import Any, Literal

from streams.gateway.models import Answer
from streams.gateway.views import DeadLetterView


class LetterList(Answer):
    """A page of dead letters; ``cursor`` leads to the next one, null where there is none."""

    entries: list[DeadLetterView]
    cursor: str | None


class ChapterView(Answer):
    """Something that happened to a dead letter."""

    at: str
    state: str
    by: str
    reason: str


class LetterDetail(DeadLetterView):
    """A dead letter; ``raw`` is its value where it cannot be decoded."""

    payload: Any
    raw: str | None
    headers: dict[str, str]
    stack: str | None
    story: list[ChapterView]


class RefusedView(Answer):
    """A dead letter that was asked for and is left alone."""

    ref: str
    reason: str


class OperationView(Answer):
    """A replay or a discard, planned or under way.

    Attributes:
        id: Resumes it; null for a dry run.
        status: ``interrupted``: nobody at this gateway works on it; resume it, unless another process does.
        entries: How many dead letters it takes.
        by_topic: How many of each dead-letter topic, where it was just planned.
        by_partition: The same by ``<topic>/<partition>``.
        refusals: How many are left alone.
        refused: The first 100 of those, with the reason.
        passed_over: How many need nothing, by state.
        done: Of its entries, so many were dealt with here.
        before: Of those, so many had been written before it was resumed, known at the end.
        expired: Of those, so many had been deleted from the log, known at the end.
        problem: Why it stopped.
    """

    id: str | None
    kind: Literal["replay", "discard"]
    status: Literal["planned", "running", "interrupted", "finished"]
    entries: int
    by_topic: dict[str, int] | None = None
    by_partition: dict[str, int] | None = None
    refusals: int | None = None
    refused: list[RefusedView] | None = None
    passed_over: dict[str, int] | None = None
    done: int | None = None
    before: int | None = None
    expired: int | None = None
    by: str | None = None
    at: str | None = None
    reason: str | None = None
    problem: str | None = None

"""What a job is asked for with: its options, what each may be, which contradict each other, which are carried out.

Invariant: an option is carried out or refused by its name; none is ignored.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
)

from schemas.contract import Problem
from streams.gateway.models import Id, Key, Moment, Name, Request, Tenant, date_time

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_RECORDS = 1_000  # of a batch
_YEAR = 31_536_000.0  # seconds
_ZONES = available_timezones()


def _zone(name: str) -> str:
    if name not in _ZONES:
        raise ValueError("must be the IANA name of a time zone, for example Asia/Ulaanbaatar")
    return name


_Queue = Annotated[str, StringConstraints(max_length=100, pattern=r"^[a-z0-9][a-z0-9._-]*$")]
_Zone = Annotated[str, AfterValidator(_zone)]
_LocalOrNot = Annotated[datetime, Field(strict=False), BeforeValidator(date_time)]
_Url = Annotated[HttpUrl, Field(strict=False)]


class Dedupe(BaseModel):
    """Jobs with the same ``key`` within ``window`` seconds are one."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    key: Key
    window: Annotated[float, Field(gt=0, le=_YEAR)] = 86_400.0


class Callback(BaseModel):
    """Where the end of the job is told."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    url: _Url
    on: Annotated[list[Literal["completed", "dead", "cancelled"]], Field(min_length=1)] = ["completed", "dead"]


class JobOptions(Request):
    """How a job is to be carried out; what is marked so is checked, and then refused by its name."""

    _waiting: ClassVar = ("priority", "run_at", "delay", "time_zone", "attempts", "expires_at", "dedupe", "callback")

    queue: Annotated[_Queue | None, Field(description="The type's own; another one is not carried out yet.")] = None
    priority: Annotated[int | None, Field(ge=0, le=9, description="Not carried out yet.")] = None
    run_at: Annotated[_LocalOrNot | None, Field(description="Not carried out yet.")] = None
    delay: Annotated[float | None, Field(gt=0, le=_YEAR, description="Seconds. Not carried out yet.")] = None
    time_zone: Annotated[_Zone | None, Field(description="Of a run_at without an offset. Not carried out yet.")] = None
    attempts: Annotated[int | None, Field(ge=1, le=100, description="Not carried out yet.")] = None
    expires_at: Annotated[Moment | None, Field(description="Not carried out yet.")] = None
    dedupe: Annotated[Dedupe | None, Field(description="Not carried out yet.")] = None
    callback: Annotated[Callback | None, Field(description="Not carried out yet.")] = None

    def faults(self) -> tuple[Problem, ...]:
        """What contradicts itself, or else is not carried out yet."""
        if not self.model_fields_set.intersection(self._waiting):
            return ()
        return tuple(self._contradictions()) or tuple(
            Problem(f"/{name}", f"{name} is not carried out yet; leave it away")
            for name in self._waiting
            if getattr(self, name) is not None
        )

    def _contradictions(self) -> Iterator[Problem]:
        if self.run_at is not None and self.delay is not None:
            yield Problem("/delay", "contradicts run_at: give one of them")
        if self.time_zone is not None and self.run_at is None:
            yield Problem("/time_zone", "says nothing without run_at")
        if self.run_at is not None:
            yield from self._moment(self.run_at)
        if self.expires_at is not None and self.expires_at.timestamp() <= time.time():
            yield Problem("/expires_at", "must lie in the future")

    def _moment(self, run_at: datetime) -> Iterator[Problem]:
        if run_at.tzinfo is None and self.time_zone is None:
            yield Problem("/run_at", "needs an offset, or a time_zone beside it")
        if run_at.tzinfo is not None and self.time_zone is not None:
            yield Problem("/time_zone", "contradicts the offset of run_at: give one of them")
        if run_at.tzinfo is not None and self.expires_at is not None and self.expires_at <= run_at:
            yield Problem("/expires_at", "must be later than run_at")


class JobRequest(JobOptions):
    """A job to be done, by default for the caller's tenant; ``key`` overrides what the type takes from its payload."""

    type: Name
    tenant: Tenant | None = None
    payload: Any
    id: Id | None = None
    key: Key | None = None


class JobBatch(Request):
    """Jobs to be taken in their order; each of them is as the body of ``POST /api/v1/jobs``."""

    jobs: list[Any]


def refused_queue(asked: Any, own: str) -> tuple[Problem, ...]:
    """What is to be said of a queue that is not the type's own."""
    if asked is None or asked == own:
        return ()
    return (Problem("/queue", f"a queue other than the type's own, {own}, is not carried out yet; leave it away"),)

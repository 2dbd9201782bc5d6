"""Accepts jobs: the job record and its ``pending`` status, both acknowledged before anybody is told.

Invariant: whoever got an ``Accepted`` will be answered by the history; a job that was not taken does not stay pending.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import structlog

from schemas.job_status.model import CONTRACT as STATUS
from schemas.job_status.model import Status
from streams.door import Accepted, ProblemError
from streams.event import Attributes, to_headers
from streams.gateway.ids import uuid7
from streams.gateway.intake import SOURCE, checked_key, now, rfc3339
from streams.history import TOPIC, status_key
from streams.ports import Message, Position, RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from streams.gateway.intake import Intake
    from streams.job import Job
    from streams.metrics import Metrics

LOCATION = "/api/v1/jobs/"
_NOWHERE = -1  # partition and offset of a job that has no position yet
# The fields of a ``Status`` that are the same for all jobs, or unknown yet: written without a model, as there is one of
# these for each job that comes in.
_PENDING: dict[str, Any] = {
    **dict.fromkeys(Status.model_fields),
    "status": "pending",
    "attempt": 0,
    "replays": 0,
    "partition": _NOWHERE,
    "offset": _NOWHERE,
}
_NOT_TAKEN = {"status": "failed", "error": "the broker did not take the job"}
_log = structlog.get_logger(__name__)


class Prepared(NamedTuple):
    """A job's two records, ready to be written, and the fields of the second one."""

    message: Message
    status: Message
    pending: dict[str, Any]


class Submission:
    """Takes jobs of the catalogue; ``jobs`` by type."""

    def __init__(self, intake: Intake, jobs: Mapping[str, Job], metrics: Metrics) -> None:
        self._intake = intake
        self._jobs = jobs
        self._pending = {job.type: _PENDING | {"type": job.type, "queue": job.queue} for job in jobs.values()}
        self._topics = {job.type: f"jobs.{job.queue}" for job in jobs.values()}
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(
        self, name: str, payload: BaseModel, *, tenant: str, entity: str | None = None, job_id: str | None = None
    ) -> Accepted:
        """Publish a job; see ``streams.door.Door.submit_job``.

        Raises:
            ProblemError, TransientError, RecordRefusedError: It is not accepted.
        """
        prepared = await self.prepared(name, payload, tenant=tenant, entity=entity, job_id=job_id)
        return await self.submit_one(prepared)

    async def prepared(
        self,
        name: str,
        payload: BaseModel,
        *,
        tenant: str,
        entity: str | None = None,
        job_id: str | None = None,
        request: str | None = None,
    ) -> Prepared:
        """A job ready to be published; ``request`` makes it known as the same one when it is sent again.

        Raises:
            ProblemError, TransientError: It cannot be.
        """
        job, job_id, topic = self._jobs[name], job_id or uuid7(), self._topics[name]
        key = checked_key(tenant, entity or job.key(payload))
        milliseconds = time.time_ns() // 1_000_000
        moment = rfc3339(milliseconds)
        attributes = Attributes(id=job_id, type=name, source=SOURCE, time=moment, extensions={"tenant": tenant})
        message = await self._intake.message(job.contract, payload, attributes, topic=topic, key=key, request=request)
        pending = {
            **self._pending[name],
            "job_id": job_id,
            "tenant": tenant,
            "key": key.decode(),
            "time": milliseconds,
            "topic": topic,
            "payload": payload.model_dump_json(),
        }
        return Prepared(message, await self._record(pending, moment), pending)

    async def submit_one(self, prepared: Prepared) -> Accepted:
        """Publish a job.

        Raises:
            ProblemError, TransientError, RecordRefusedError: It is not accepted.
        """
        (found,) = await self.submit_all([prepared])
        if isinstance(found, BaseException):
            raise found
        return found

    async def submit_all(self, jobs: Sequence[Prepared]) -> list[Accepted | BaseException]:
        """Publish jobs in their order; of each, that it is accepted or why not.

        Raises:
            ProblemError: Too much is unacknowledged; nothing was written.
        """
        messages = [message for job in jobs for message in (job.message, job.status)]
        ends = await self._intake.publish("job", *messages)
        found = [_end(*each) for each in zip(jobs, ends[::2], ends[1::2], strict=True)]
        lost = [job.pending for job, end in zip(jobs, ends[::2], strict=True) if isinstance(end, BaseException)]
        if lost:
            self._tell_later([status | _NOT_TAKEN for status in lost])
        names = [job.pending["type"] for job, end in zip(jobs, found, strict=True) if isinstance(end, Accepted)]
        for name in set(names):
            self._metrics.inc("keylane_accepted_total", names.count(name), kind="job", type=name)
        return found

    async def close(self) -> None:
        """Wait for what has still to be written."""
        await asyncio.gather(*self._tasks)

    async def _record(self, status: dict[str, Any], moment: str) -> Message:
        try:
            value = await self._intake.encoded(STATUS, status)
        except ProblemError:  # too long with the payload: the step counts more than what is in it
            value = await self._intake.encoded(STATUS, status | {"payload": None})
        attributes = Attributes(
            id=f"{status['job_id']}/{status['status']}", type=STATUS.name, source=SOURCE, time=moment
        )
        return Message(TOPIC, status_key(status["tenant"], status["job_id"]), value, to_headers(attributes))

    def _tell_later(self, statuses: list[dict[str, Any]]) -> None:
        # The client has waited long enough. Should a job have been stored after all, its later statuses outrank this.
        task = asyncio.create_task(self._tell(statuses))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, statuses: list[dict[str, Any]]) -> None:
        told: list[Any]
        try:
            told = await self._intake.publish("job", *[await self._record(status, now()) for status in statuses])
        except Exception as error:  # noqa: BLE001 - whatever it is, there is nobody to tell but the log
            told = [error] * len(statuses)
        for status, end in zip(statuses, told, strict=True):
            if isinstance(end, BaseException):
                _log.warning("job not taken, and its status not told", job=status["job_id"], error=str(end))


def _end(job: Prepared, stored: Position | BaseException, told: Position | BaseException) -> Accepted | BaseException:
    job_id = job.pending["job_id"]
    for end in (stored, told):
        if isinstance(end, BaseException):
            return _refusal(end, job_id)
    return Accepted(id=job_id, location=LOCATION + job_id, position=cast("Position", stored))


def _refusal(error: BaseException, job_id: str) -> BaseException:
    if isinstance(error, RecordRefusedError | ProblemError):
        return error
    _log.warning("job not acknowledged", job=job_id, error=str(error))
    detail = "The broker did not acknowledge the job, it may or may not run; send it again with this job_id."
    return ProblemError("unavailable", detail, retry_after=1, extra={"job_id": job_id})

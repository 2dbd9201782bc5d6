"""Tells the history where each job stands: ``job.status`` records, in order per job.

A run that is over before its ``processing`` is written is told with one record: its last step, with the time it began.
Invariant: the steps of a job go into the outbox in the order of its life.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from streams.history import status_key
from streams.identity import identify
from streams.ports import Message

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.contract import Contract
    from streams.core.deadletter import Failure
    from streams.core.track import Entry
    from streams.engine.outbox import Outbox
    from streams.ports import Context

_MOST = 2**31 - 1  # of an Avro int; a stranger's headers may say more
_ABSENT = dict.fromkeys(("payload", "result", "error", "stack", "started", "due"))
_BYTES = 1_000  # a step holds so much beside its texts


class _Step:
    """A step that is not written yet: ``more`` of it may come."""

    __slots__ = ("attempt", "entry", "more", "name", "status", "time")

    def __init__(self, entry: Entry, name: str, status: str, attempt: int, **more: Any) -> None:
        self.entry = entry
        self.name = name
        self.status = status
        self.attempt = attempt
        self.time = _now()
        self.more = more

    def end(self, status: str, attempt: int, more: dict[str, Any]) -> None:
        """The run is over: this is its last step now."""
        self.more.update(more, started=self.time)
        self.status, self.attempt, self.time = status, attempt, _now()


class Tracker:
    """Publishes the statuses of one queue's jobs.

    Args:
        contract: ``job.status``, given so that this module knows no payload by name.
        topic: Where statuses go.
        worker: The name of this process.
    """

    def __init__(
        self, codec: Codec, outbox: Outbox, contract: Contract, *, topic: str, queue: str, worker: str
    ) -> None:
        self._codec = codec
        self._outbox = outbox
        self._contract = contract
        self._topic = topic
        self._queue = queue
        self._worker = worker
        self._begun: dict[Entry, _Step] = {}  # in the outbox, not written yet

    def processing(self, entry: Entry, context: Context, payload: Any) -> None:
        """A run begins."""
        text = payload.model_dump_json() if entry.attempts == 0 else None
        step = _Step(entry, context.type, "processing", entry.attempts + 1, payload=text)
        self._begun[entry] = step
        self._put(step, text or "")

    def completed(self, entry: Entry, context: Context, result: Any) -> None:
        """The job is done."""
        text = as_json(result)
        self._ended(entry, context.type, "completed", entry.attempts + 1, result=text)

    def cancelled(self, entry: Entry, context: Context, *, ran: bool) -> None:
        """The job was cancelled, in a run or before it."""
        self._ended(entry, context.type, "cancelled", entry.attempts + ran)

    def moved(self, entry: Entry, failure: Failure, due: float | None) -> None:
        """The job failed and waits in a tier until ``due``, seconds since the epoch; None: it is given up."""
        self._ended(
            entry,
            failure.handler,
            "dead" if due is None else "retrying",
            entry.attempts,
            due=None if due is None else int(due * 1000),
            error=f"{failure.exception}: {failure.message}"[:2_000],
            stack=failure.stack()[-8_192:] or None,
        )

    def _ended(
        self, entry: Entry, name: str, status: str, attempt: int, due: int | None = None, **texts: str | None
    ) -> None:
        begun = self._begun.pop(entry, None)
        if begun is None:
            self._put(_Step(entry, name, status, attempt, due=due, **texts), *texts.values())
        else:
            begun.end(status, attempt, {**texts, "due": due})
            self._outbox.weigh(sum(len(text) for text in texts.values() if text))

    def _put(self, step: _Step, *texts: str | None) -> None:
        self._outbox.put(lambda: self._message(step), _BYTES + sum(len(text) for text in texts if text))

    async def _message(self, step: _Step) -> Message:
        if self._begun.get(step.entry) is step:
            del self._begun[step.entry]
        fields = self._fields(step)
        try:
            value = await self._codec.encode_fields(self._contract, fields)
        except ValueError:  # too long for a record: the step counts more than what was in it
            fields |= {"payload": None, "result": None, "stack": None}
            value = await self._codec.encode_fields(self._contract, fields)
        return Message(self._topic, status_key(fields["tenant"], fields["job_id"]), value)

    def _fields(self, step: _Step) -> dict[str, Any]:
        identity = identify(step.entry.record)
        topic, partition, offset = identity.origin
        return {
            "job_id": identity.id,
            "type": step.name,
            "queue": self._queue,
            "tenant": identity.tenant,
            "key": identity.key,
            "status": step.status,
            "attempt": min(step.attempt, _MOST),
            "replays": min(identity.replays, _MOST),
            "time": step.time,
            "topic": topic,
            "partition": min(partition, _MOST),
            "offset": offset,
            "worker": self._worker,
            **_ABSENT,
            **step.more,
        }


def _now() -> int:
    return int(time.time() * 1000)


def as_json(result: Any, *, ensure_ascii: bool = False) -> str | None:
    """The result as JSON text; the work is done, so what JSON cannot hold is kept as text rather than refused."""
    if result is None:
        return None
    try:
        return json.dumps(result, ensure_ascii=ensure_ascii, default=str)
    except (TypeError, ValueError):
        return json.dumps(str(result), ensure_ascii=ensure_ascii)

"""Tells the history where each job stands: one ``job.status`` record per step, in order per job.

Invariant: the statuses of a job go into the outbox in the order of its life.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from streams.identity import identify
from streams.ports import Message

if TYPE_CHECKING:
    from schemas.codec import Codec
    from schemas.contract import Contract
    from streams.core.deadletter import Failure
    from streams.core.track import Entry
    from streams.engine.outbox import Outbox
    from streams.ports import Context


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

    def processing(self, entry: Entry, context: Context, payload: Any) -> None:
        """A run begins."""
        text = payload.model_dump_json() if entry.attempts == 0 else None
        self._tell(entry, context.type, "processing", entry.attempts + 1, payload=text)

    def completed(self, entry: Entry, context: Context, result: Any) -> None:
        """The job is done."""
        self._tell(entry, context.type, "completed", entry.attempts + 1, result=as_json(result))

    def moved(self, entry: Entry, failure: Failure, *, dead: bool) -> None:
        """The job failed and waits in a tier, or is given up."""
        self._tell(
            entry,
            failure.handler,
            "dead" if dead else "retrying",
            entry.attempts,
            error=f"{failure.exception}: {failure.message}"[:2_000],
            stack=failure.stack[-8_192:] or None,
        )

    def _tell(self, entry: Entry, name: str, status: str, attempt: int, **more: Any) -> None:
        identity = identify(entry.record)
        topic, partition, offset = identity.origin
        step = {
            "job_id": identity.id,
            "type": name,
            "queue": self._queue,
            "tenant": identity.tenant,
            "key": identity.key,
            "status": status,
            "attempt": attempt,
            "replays": identity.replays,
            "time": int(time.time() * 1000),
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "worker": self._worker,
            **more,
        }
        self._outbox.put(lambda: self._message(step))

    async def _message(self, step: dict[str, Any]) -> Message:
        try:
            value = await self._codec.encode(self._contract, self._contract.model(**step))
        except ValueError:  # too long for a record: the step counts more than what was in it
            bare = step | {"payload": None, "result": None, "stack": None}
            value = await self._codec.encode(self._contract, self._contract.model(**bare))
        return Message(self._topic, step["job_id"].encode(), value)


def as_json(result: Any, *, ensure_ascii: bool = False) -> str | None:
    """The result as JSON text; the work is done, so what JSON cannot hold is kept as text rather than refused."""
    if result is None:
        return None
    try:
        return json.dumps(result, ensure_ascii=ensure_ascii, default=str)
    except (TypeError, ValueError):
        return json.dumps(str(result), ensure_ascii=ensure_ascii)

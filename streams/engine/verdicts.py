"""Makes a result, on which the core decides, of what a handler returned or raised or why it was not called.

Invariant: nothing here runs, waits or is counted; each failure names the record, the handler and the attempt.
"""

from __future__ import annotations

import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

from schemas.errors import UndecodableError
from streams.core.commands import CANCELLED, SUCCEEDED, Failed
from streams.core.deadletter import Failure
from streams.core.retry import RetryPolicy
from streams.job import Cancelled, OutcomeUnknownError, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.core.commands import Result
    from streams.core.deadletter import Classification
    from streams.core.track import Entry
    from streams.engine.runner import Call
    from streams.job import Group, Work


class Verdicts:
    """Those of one group.

    Args:
        draw: Gives random numbers in [0, 1) for jitter.
        version: Of this program, noted on dead letters.
    """

    def __init__(self, group: Group, draw: Callable[[], float], version: str) -> None:
        self._group = group
        self._draw = draw
        self._version = version
        held = any(work.retry.on_dead == "hold" for work in group.works.values())
        # A record whose handler is not known must not overtake a key that some handler of the group would hold.
        self._unknown_policy = RetryPolicy(on_dead="hold" if held else "skip")

    # -- not called ------------------------------------------------------------------------------------------------

    def unknown(self, entry: Entry, name: str) -> Result:
        """No handler takes records of this name."""
        if self._group.ignore_unknown:
            return SUCCEEDED
        error = LookupError(f"no handler of group {self._group.name} takes {name!r}")
        return self.final(entry, None, name, error, "unknown-type")

    def misnamed(self, entry: Entry, work: Work | None, named: bytes | None, found: str) -> Result:
        """The value is of another name than the header says."""
        if not named:
            return self.unknown(entry, found)
        name = named.decode(errors="replace")
        error = UndecodableError(f"the ce_type header says {name}, the value is a {found}")
        return self.final(entry, work, name, error, "undecodable")

    def final(
        self, entry: Entry, work: Work | None, name: str, error: Exception, classification: Classification
    ) -> Failed:
        """It will never succeed; ``work`` is None where no handler is known."""
        policy = self._unknown_policy if work is None else work.retry
        return Failed(policy, self._failure(entry, name, error, classification), final=True)

    # -- called ----------------------------------------------------------------------------------------------------

    def returned(self, call: Call, outcome: Any) -> Result:
        """The handler came to its end."""
        if isinstance(outcome, Retry):
            failure = self._failure(call.entry, call.context.type, RuntimeError(outcome.reason), "exhausted")
            return Failed(call.work.retry, failure, after=outcome.after, draw=self._draw())
        if isinstance(outcome, Reject):
            return self.final(call.entry, call.work, call.context.type, RuntimeError(outcome.reason), "rejected")
        return CANCELLED if isinstance(outcome, Cancelled) else SUCCEEDED

    def raised(self, call: Call, error: Exception) -> Result:
        """The handler failed."""
        if isinstance(error, OutcomeUnknownError):
            return self._not_known(call, error)
        if isinstance(error, call.work.retry.final):
            return self.final(call.entry, call.work, call.context.type, error, "final")
        failure = self._failure(call.entry, call.context.type, error, "exhausted")
        return Failed(call.work.retry, failure, draw=self._draw())

    def _not_known(self, call: Call, error: OutcomeUnknownError) -> Failed:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        final = error.final or isinstance(cause, call.work.retry.final)
        failure = self._failure(call.entry, call.context.type, cause, "outcome-unknown")
        return Failed(call.work.retry, failure, final=final, draw=self._draw())

    def _failure(self, entry: Entry, name: str, error: Exception, classification: Classification) -> Failure:
        record = entry.record
        return Failure(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            group=self._group.name,
            handler=name,
            attempts=entry.attempts + 1,
            time=int(time.time() * 1000),
            exception=f"{type(error).__module__}.{type(error).__qualname__}",
            message=str(error),
            stack=partial(_trace, error),
            classification=classification,
            version=self._version,
        )


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error)) if error.__traceback__ else ""

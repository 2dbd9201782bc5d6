"""Recognises records that came under an Idempotency-Key and are done: also with Redis lost, a request is one effect.

The gateway writes the request's id on its records; a group notes in the effect ledger which of them it has finished.
Invariant: a record with such an id is run only while the ledger says that its group has not finished it. A crash
between the effect and the note repeats the run, as crashes do: whoever minds that marks the handler ``once``.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.core.effects import Step, begun
from streams.engine.fence import Fence
from streams.engine.tracker import as_json
from streams.job import Done, Reject, Retry
from streams.ports import Claim, Intent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from streams.core.effects import Standing
    from streams.engine.fence import Means
    from streams.ports import Context

    Call = Callable[[Any, Any], Awaitable[Any]]


class _Known(NamedTuple):
    """A record of a request as the ledger knows it."""

    step: Step
    standing: Standing
    fence: Fence


class Recognition:
    """Stands around the handlers of one group."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def run(self, call: Call, payload: Any, context: Context, request: str) -> Any:
        """What the handler returned, now or when the record came first; raises what it raises.

        Raises:
            TransientError: The ledger is away.
        """
        found = await self._looked(context, request)
        if found.step is Step.RECOGNISE:
            return Done(json.loads(found.standing.result or "null"))
        if found.step is Step.REFUSE:
            return _refused(request)
        outcome = await call(payload, context)
        await self._note([found], outcome)
        return outcome

    async def run_batch(
        self, call: Call, payloads: Sequence[Any], contexts: Sequence[Context], requests: Sequence[str | None]
    ) -> Any:
        """The same for a batch of which some records came under a key; ``requests`` has None for the others."""
        first = {request: number for number, request in reversed([*enumerate(requests)]) if request is not None}
        looks = await asyncio.gather(*(self._looked(contexts[number], request) for request, number in first.items()))
        found = dict(zip(first, looks, strict=True))
        left = []
        for number, request in enumerate(requests):
            if request is not None:
                known, twin = found[request], number != first[request]
                same = not twin or contexts[number].digest == contexts[first[request]].digest
                if known.step is Step.REFUSE or not same:
                    return _refused(request)  # of one record; halving finds it
                if known.step is Step.RECOGNISE or twin:
                    continue
            left.append(number)
        if not left:
            return None
        outcome = await call([payloads[number] for number in left], [contexts[number] for number in left])
        await self._note([known for known in looks if known.step is Step.RUN], outcome)
        return outcome

    async def _looked(self, context: Context, request: str) -> _Known:
        group, key = self._means.group, f"request/{request}"
        intent = Intent(group, key, context.digest, self._means.owner, context.replays, None)
        standing = await self._means.ledger.begin(intent)
        step = begun(standing, replays=context.replays, can_ask=False)
        if step is Step.RECOGNISE:
            self._means.metrics.inc("keylane_requests_recognised_total", group=group)
        return _Known(step, standing, Fence(self._means, Claim(group, key, standing.token), 0.0, context.replays))

    @staticmethod
    async def _note(ended: Iterable[_Known], outcome: Any) -> None:
        if isinstance(outcome, Retry | Reject):
            return
        result = as_json(outcome.result if isinstance(outcome, Done) else None, ensure_ascii=True) or "null"
        await asyncio.gather(*(known.fence.finish(result) for known in ended))


def _refused(request: str) -> Reject:
    return Reject(f"the request {request} stands for another record: its Idempotency-Key was given with two requests")

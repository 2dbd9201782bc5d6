"""Calls handlers marked ``once``: intent and outcome in the effect ledger around the call, see ``core/effects.py``.

Invariant: a handler is called only under a token that was ours a moment ago, and never again once an outcome is
stored; what is not known to be done or not done is asked for, or left to an operator, and never sent again. An order to
cancel ends a job of which it is known that nothing was sent; a run under way is left alone, and its outcome counts.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.core.effects import Step, answered, begun
from streams.engine.cancelling import Orders
from streams.engine.deadlines import RunTimeoutError
from streams.engine.fence import PATIENCE, Fence
from streams.engine.tracker import as_json
from streams.job import Cancelled, Done, NotDone, OutcomeUnknownError, Reject, Retry, TransientError, Unknown
from streams.ports import Claim, Intent

if TYPE_CHECKING:
    from streams.core.effects import Answer, Standing
    from streams.engine.calls import Call, Calls
    from streams.engine.fence import Means
    from streams.job import Once, Work
    from streams.ports import Context


class OnceCalls:
    """Binds the handlers of one group; those not marked ``once`` as ``calls`` does."""

    def __init__(self, calls: Calls, means: Means, orders: Orders | None = None) -> None:
        self._calls = calls
        self._means = means
        self._orders = Orders() if orders is None else orders

    def direct(self, work: Work) -> bool:
        """As :meth:`Calls.direct`."""
        return self._calls.direct(work)

    def bind(self, work: Work) -> Call:
        """As :meth:`Calls.bind`.

        A handler marked ``once`` also raises TransientError (the ledger is away, or an earlier run has not settled),
        FencedError and OutcomeUnknownError.
        """
        once = work.once
        if once is None:
            return self._calls.bind(work)
        bare = replace(work, once=None)
        asks = once.reconcile and self._calls.bind(replace(bare, handler=once.reconcile))
        return _Guarded(self._means, once, work.timeout, self._calls.bind(bare), asks, self._orders).run


class _Said(NamedTuple):
    """A provider's answer with the result, or with the reason why there is none."""

    answer: Answer
    what: Any = None


class _Guarded:
    """The calls of one handler; ``asks`` is its look-up."""

    def __init__(self, means: Means, once: Once, seconds: float, call: Call, asks: Call | None, orders: Orders) -> None:
        self._means = means
        self._orders = orders
        self._once = once
        self._call = call
        self._asks = asks
        # From a confirmation on: until it is heard, until the run has ended, until all it sent shows.
        self._reach = PATIENCE + seconds + once.settle

    async def run(self, payload: Any, context: Context) -> Any:
        asked, cancelled = self._means.clock(), self._orders.hold(context)
        standing = await self._begin(context, runs=not cancelled)
        known = self._means.clock()
        claim = Claim(self._means.group, context.idempotency_key, standing.token)
        fence = Fence(self._means, claim, self._reach, context.replays, lambda: self._orders.hold(context))
        # Of a job that was cancelled no replay allows to send again what may have been sent.
        replays = standing.replays if cancelled else context.replays
        step, said = begun(standing, replays=replays, can_ask=self._asks is not None), _Said("unknown")
        if step is Step.ASK:
            said = await self._ask(payload, context.under(fence))
            step = answered(standing, said.answer, replays=replays)
        if step is Step.RUN and cancelled:
            await fence.release(None)
            return Cancelled()
        if step is Step.RUN:
            fresh = standing.new and known - asked <= PATIENCE
            return await self._run(fence, payload, context.under(fence), armed=fresh)
        return await self._without_run(step, fence, standing, said, since=self._means.clock() - known)

    async def _begin(self, context: Context, *, runs: bool) -> Standing:
        armed = self._reach if runs and not self._once.confirms else None
        key, digest, replays = context.idempotency_key, context.digest, context.replays
        return await self._means.ledger.begin(Intent(self._means.group, key, digest, self._means.owner, replays, armed))

    async def _ask(self, payload: Any, context: Context) -> _Said:
        assert self._asks is not None  # noqa: S101 - the step says so
        try:
            answer = await self._asks(payload, context)
        except TransientError:
            raise
        except Exception as error:
            raise OutcomeUnknownError("the look-up failed", final=False) from error
        said = _said(answer)
        self._means.metrics.inc("keylane_effects_reconciled_total", group=self._means.group, answer=said.answer)
        return said

    async def _without_run(self, step: Step, fence: Fence, standing: Standing, said: _Said, *, since: float) -> Any:
        key = fence.claim.key
        if step is Step.RECOGNISE:
            self._means.metrics.inc("keylane_effects_recognised_total", group=self._means.group)
            return Done(json.loads(standing.result or "null"))
        if step is Step.REFUSE:
            return Reject(f"the idempotency key {key} stands for another record: two of them bear one id")
        if step is Step.FINISH:
            return await self._finished(fence, Done(said.what))
        if step is Step.WAIT:
            left = max(0.0, (standing.unsettled or 0.0) - since)
            raise TransientError(f"what an earlier run sent for {key} may still show, for {left:.1f} s", after=left)
        why = f"the provider cannot tell: {said.what}" if self._asks else "its handler has no look-up (reconcile)"
        raise OutcomeUnknownError(
            f"the effect {key} may or may not have happened: {why}; look at the provider, then discard, "
            "or replay to send it again",
            final=self._asks is None,
        )

    async def _run(self, fence: Fence, payload: Any, context: Context, *, armed: bool) -> Any:
        if not self._once.confirms:
            if not armed:
                await fence.confirm()
            fence.sent = True
        self._means.metrics.inc("keylane_effect_intents_total", group=self._means.group)
        try:
            outcome = await self._call(payload, context)
        except Exception as error:
            await self._failed(fence, error)
            raise
        if fence.lost:
            raise fence.fenced("outcome")
        if isinstance(outcome, Retry | Reject):
            await fence.release(None)
            return outcome
        return await self._finished(fence, outcome)

    async def _failed(self, fence: Fence, error: Exception) -> None:
        """Raise what is to be said instead of the handler's error, if anything is."""
        if fence.lost:
            raise fence.fenced("outcome") from error
        await fence.release(self._once.settle if fence.sent else None)
        if fence.sent and (self._asks is None or not isinstance(error, TransientError)):
            raise OutcomeUnknownError("the run failed and may have sent something", final=self._asks is None) from error
        if fence.unanswered and isinstance(error, RunTimeoutError):
            raise TransientError("the run's time-out passed before the effect ledger answered") from error

    async def _finished(self, fence: Fence, outcome: Any) -> Any:
        result = outcome.result if isinstance(outcome, Done) else None
        await fence.finish(as_json(result, ensure_ascii=True) or "null")
        return outcome


def _said(answer: Any) -> _Said:
    if isinstance(answer, Done):
        return _Said("done", answer.result)
    if isinstance(answer, NotDone):
        return _Said("not-done")
    if isinstance(answer, Unknown):
        return _Said("unknown", answer.reason)
    return _Said("unknown", f"reconcile returned {answer!r}, which is none of Done, NotDone and Unknown")

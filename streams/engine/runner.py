"""Runs entries: decode, call the handler, and say as a value what came of it. It decides nothing about retries.

Invariant: :meth:`Runner.begin` ends in one result per entry, in order, and raises nothing but cancellation.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import copy_context
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.errors import RegistryUnavailableError, UndecodableError, UnknownContractError
from streams.core.commands import CANCELLED, NOT_RUN, SUCCEEDED, Blocked
from streams.core.headers import REQUEST, SOURCE
from streams.engine.calls import on_loop
from streams.engine.cancelling import Orders
from streams.engine.deadlines import Deadlines
from streams.engine.steps import Rest, begun
from streams.engine.verdicts import Verdicts
from streams.job import Done, TransientError
from streams.ports import Context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from schemas.codec import Codec
    from streams.core.commands import Result, Run
    from streams.core.track import Entry
    from streams.engine.calls import Calls
    from streams.engine.once import OnceCalls
    from streams.engine.recognition import Recognition
    from streams.engine.telemetry import Telemetry
    from streams.engine.traced import TracedCalls
    from streams.job import Group, Work
    from streams.ports import Record, Services

# How long a key waits when something outside is away.
TRANSIENT_WAIT = 1.0
_ROW_SECONDS = 0.002
_LONGEST_REQUEST = 64  # bytes: the gateway's are 36
_DONE = (SUCCEEDED,)


class Call(NamedTuple):
    """A record made ready: what to call with what; ``request`` is what it is known by, if it came under a key."""

    entry: Entry
    work: Work
    payload: Any
    context: Context
    request: str | None = None


class Runner:
    """Runs the entries of one group.

    Args:
        draw: Gives random numbers in [0, 1) for jitter.
        version: Of this program, noted on dead letters.
        orders: To cancel jobs.
        monotonic: The clock by which a row of a key's records shares the loop.
        recognition: Knows what came under an Idempotency-Key and is done; None runs it again.
    """

    def __init__(
        self,
        group: Group,
        codec: Codec,
        services: Services,
        calls: Calls | OnceCalls | TracedCalls,
        telemetry: Telemetry,
        draw: Callable[[], float],
        version: str,
        monotonic: Callable[[], float] = time.monotonic,
        orders: Orders | None = None,
        recognition: Recognition | None = None,
    ) -> None:
        self._group = group
        self._name = group.name
        self._codec = codec
        self._services = services
        self._works = {name.encode(): work for name, work in group.works.items()}
        self._bound = {id(work): calls.bind(work) for work in group.works.values()}
        self._direct = {id(work) for work in group.works.values() if calls.direct(work)}
        self._deadlines = Deadlines()
        self._batches = any(work.batch for work in group.works.values())
        self._telemetry = telemetry
        self._verdicts = Verdicts(group, draw, version)
        self._monotonic = monotonic
        self._orders = Orders() if orders is None else orders
        self._cancelled = self._orders.known  # empty most of the time, which costs nothing
        self._stoppable = set() if orders is None else {id(w) for w in group.works.values() if _is_stoppable(w)}
        self._recognition = recognition

    def begin(self, run: Run) -> Sequence[Result] | Rest[Sequence[Result]]:
        """Make the first step of a run, one entry or a batch in order: its results, or what is left to await."""
        if len(run) == 1:
            return self._begin_one(run[0])
        return begun(self._run_many(run)) if self._batches else self._begin_row(run)

    def _begin_row(self, run: Run) -> Sequence[Result] | Rest[Sequence[Result]]:
        """Run records of one key as long as none fails or has to wait, nor all together take long."""
        results: list[Result] = []
        until = self._monotonic() + _ROW_SECONDS
        for entry in run:
            context = copy_context()
            found = context.run(self._begin_one, entry)
            if isinstance(found, Rest):
                return begun(_and_no_more(run, results, found.within(context)))
            results += found
            if found[0] is not SUCCEEDED or self._monotonic() > until:
                break
        return _filled(run, results)

    def _begin_one(self, entry: Entry) -> Sequence[Result] | Rest[Sequence[Result]]:
        ready = self._ready(entry)
        if type(ready) is Call and self._is_direct(ready) and not self._telemetry.full:
            return self._begin_call(ready)
        return begun(self._run_one(entry, ready))

    def _is_direct(self, call: Call) -> bool:
        return call.request is None and id(call.work) in self._direct

    def _begin_call(self, call: Call) -> Sequence[Result] | Rest[Sequence[Result]]:
        """What nearly every run does: call one handler on the loop, without a coroutine of our own around it."""
        if self._telemetry.tracking:
            self._started((call,))
        started = time.monotonic()
        try:
            found = begun(call.work.handler(call.payload, call.context))
        except asyncio.CancelledError as error:  # between two steps nobody else can have cancelled it
            found = _cancelled_inside(error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            found = error
        if found is None and call.entry.level is SOURCE and not self._telemetry.tracking:
            self._telemetry.ended(call.context.type, SUCCEEDED, time.monotonic() - started, 1)
            return _DONE
        if isinstance(found, Rest):
            return begun(self._await_call(call, found, started))
        return (self._ended((call,), found, started),)

    async def _await_call(self, call: Call, rest: Rest[Any], started: float) -> Sequence[Result]:
        limited = self._heeding(call.work, call.context, self._deadlines.limit(call.work.timeout, rest))
        return (await self._outcome((call,), limited, started),)

    async def _run_one(self, entry: Entry, ready: Call | Result | None) -> Sequence[Result]:
        if ready is None:
            ready = await self._load(entry)
        if not isinstance(ready, Call):
            return (ready,)
        if ready.work.batch is not None:
            return await self._run_batch([ready], set())
        return (await self._attempt(ready.work, ready.payload, ready.context, (ready,)),)

    async def _run_many(self, entries: Sequence[Entry]) -> list[Result]:
        prepared: dict[Entry, Call | Result] = {}
        stopped: set[bytes | None] = set()  # keys that go no further in this batch
        for entry in entries:
            if stopped and entry.key in stopped:
                prepared[entry] = NOT_RUN
                continue
            ready = self._ready(entry)
            if ready is None:
                ready = await self._load(entry)
            prepared[entry] = ready
            if type(ready) is not Call and ready is not SUCCEEDED and entry.key is not None:
                stopped.add(entry.key)
        calls = [item for item in prepared.values() if type(item) is Call]
        if len(calls) == len(entries) and all(call.work is calls[0].work for call in calls) and calls[0].work.batch:
            return await self._halved(calls)
        results = dict(zip((call.entry for call in calls), await self._run_calls(calls), strict=True))
        return _up_to_the_first_failure(
            entries, [results[entry] if isinstance(item, Call) else item for entry, item in prepared.items()]
        )

    # -- making ready ----------------------------------------------------------------------------------------------

    def _ready(self, entry: Entry) -> Call | Result | None:
        """What to call, or what came of it already; None: the schema is not at hand."""
        record = entry.record
        named, request = _marks(record)
        work = self._works.get(named) if named else None
        if named and work is None:
            return self._verdicts.unknown(entry, named.decode(errors="replace"))
        try:
            reader = self._codec.reader(record.value)
            if reader is None:
                return None
            payload = reader.read(record.value)
        except UnknownContractError as error:
            return self._verdicts.unknown(entry, error.fullname)
        except UndecodableError as error:
            return self._verdicts.final(entry, work, (named or b"").decode(errors="replace"), error, "undecodable")
        name = reader.contract.name
        found = self._group.works.get(name)
        if found is None or (work is not None and found is not work):
            return self._verdicts.misnamed(entry, work, named, name)
        context = Context(record, self._name, name, entry.attempts + 1, self._services)
        call = Call(entry, found, payload, context, self._recognisable(request, found))
        return CANCELLED if self._cancelled and self._withdrawn(call) else call

    def _withdrawn(self, call: Call) -> bool:
        """Whether the job was cancelled and will not run. Of one marked ``once`` the effect ledger is asked first."""
        if call.work.once is not None or not self._orders.hold(call.context):
            return False
        self._telemetry.cancelled(call.entry, call.context, ran=False)
        return True

    def _recognisable(self, request: bytes | None, work: Work) -> str | None:
        if request is None or self._recognition is None or work.once is not None or len(request) > _LONGEST_REQUEST:
            return None
        return request.decode(errors="replace")

    async def _load(self, entry: Entry) -> Call | Result:
        try:
            await self._codec.load(entry.record.value)
        except UndecodableError as error:
            named = _marks(entry.record)[0] or b""
            name = named.decode(errors="replace")
            return self._verdicts.final(entry, self._works.get(named), name, error, "undecodable")
        except RegistryUnavailableError as error:
            named = _marks(entry.record)[0] or b""
            known = named.decode() if named in self._works else ""  # a label is never what a stranger wrote
            self._telemetry.blocked(known, f"the record cannot be decoded for now: {error}")
            return Blocked(TRANSIENT_WAIT)
        ready = self._ready(entry)
        return Blocked(TRANSIENT_WAIT) if ready is None else ready

    # -- running ---------------------------------------------------------------------------------------------------

    async def _run_calls(self, calls: list[Call]) -> list[Result]:
        """Run neighbours that share a handler together; a key whose record did not succeed goes no further."""
        results: list[Result] = []
        stopped: set[bytes | None] = set()
        for _, neighbours in groupby(calls, key=lambda call: id(call.work)):
            some = list(neighbours)
            found = await (self._run_batch(some, stopped) if some[0].work.batch else self._run_each(some, stopped))
            stopped |= _stopped(some, found)
            results += found
        return results

    async def _run_each(self, calls: list[Call], stopped: set[bytes | None]) -> list[Result]:
        results: list[Result] = []
        for call in calls:
            halted = call.entry.key in stopped | _stopped(calls, results)
            results.append(NOT_RUN if halted else await self._attempt(call.work, call.payload, call.context, [call]))
        return results

    async def _run_batch(self, calls: list[Call], stopped: set[bytes | None]) -> list[Result]:
        """Run a batch; a failing one is halved until the bad record is alone, and its key stops there."""
        ready = [call for call in calls if call.entry.key not in stopped]
        results = dict(zip((call.entry for call in ready), await self._halved(ready) if ready else [], strict=True))
        return [results.get(call.entry, NOT_RUN) for call in calls]

    async def _halved(self, calls: list[Call]) -> list[Result]:
        work = calls[0].work
        result = await self._attempt(work, [c.payload for c in calls], [c.context for c in calls], calls)
        if result is SUCCEEDED or result is CANCELLED or len(calls) == 1:
            return [result] * len(calls)
        if isinstance(result, Blocked):
            return _blocked(calls, result)
        middle = len(calls) // 2
        first = await self._halved(calls[:middle])
        return [*first, *await self._run_batch(calls[middle:], _stopped(calls[:middle], first))]

    async def _attempt(self, work: Work, payload: Any, context: Any, calls: Sequence[Call]) -> Result:
        if self._telemetry.tracking:
            await self._telemetry.room()
        if self._cancelled and len(calls) == 1 and self._withdrawn(calls[0]):  # while it waited
            return CANCELLED
        self._started(calls)
        run = self._heeding(work, context, self._called(work, payload, context, calls))
        return await self._outcome(calls, run, time.monotonic())

    def _heeding(self, work: Work, context: Any, run: Awaitable[Any]) -> Awaitable[Any]:
        return self._orders.heed(context, run) if id(work) in self._stoppable else run

    def _called(self, work: Work, payload: Any, context: Any, calls: Sequence[Call]) -> Awaitable[Any]:
        bound = self._bound[id(work)]
        if self._recognition is None or all(call.request is None for call in calls):
            return bound(payload, context)
        if work.batch is not None:
            return self._recognition.run_batch(bound, payload, context, [call.request for call in calls])
        return self._recognition.run(bound, payload, context, calls[0].request or "")

    async def _outcome(self, calls: Sequence[Call], work: Awaitable[Any], started: float) -> Result:
        try:
            found = await work
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise  # neither done nor failed
            found = _cancelled_inside(error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            found = error
        return self._ended(calls, found, started)

    def _started(self, calls: Sequence[Call]) -> None:
        if self._telemetry.tracking:
            for call in calls:
                self._telemetry.started(call.entry, call.context, call.payload)

    def _ended(self, calls: Sequence[Call], found: Any, started: float) -> Result:
        """What came of a run whose handler returned, or raised, ``found``."""
        call = calls[0]
        result = SUCCEEDED if found is None else self._judged(call, found)
        if result is CANCELLED:
            for each in calls:
                self._telemetry.cancelled(each.entry, each.context, ran=True)
        elif type(result) is not Blocked:
            self._telemetry.ended(call.context.type, result, time.monotonic() - started, len(calls))
        if result is SUCCEEDED:
            self._tell(calls, found)
        return result

    def _judged(self, call: Call, found: Any) -> Result:
        if isinstance(found, TransientError):
            self._telemetry.blocked(call.context.type, str(found))
            return Blocked(TRANSIENT_WAIT if found.after is None else found.after)
        judged = self._verdicts.raised if isinstance(found, Exception) else self._verdicts.returned
        return judged(call, found)

    def _tell(self, calls: Sequence[Call], outcome: Any) -> None:
        value = outcome.result if isinstance(outcome, Done) else None
        for call in calls:
            if self._telemetry.tracking or call.entry.level is not SOURCE:
                self._telemetry.completed(call.entry, call.context, value)


async def _and_no_more(run: Run, results: list[Result], rest: Rest[Sequence[Result]]) -> Sequence[Result]:
    return _filled(run, [*results, *await rest])


def _filled(run: Run, results: Sequence[Result]) -> Sequence[Result]:
    return [*results, *[NOT_RUN] * (len(run) - len(results))]


def _is_stoppable(work: Work) -> bool:
    """Whether a run of it can be stopped half way: no thread, no effect that may have happened, nobody else's batch."""
    return work.batch is None and work.once is None and (on_loop(work) or work.execution == "process")


def _marks(record: Record) -> tuple[bytes | None, bytes | None]:
    """The last ``ce_type`` header, and the id of the request: the gateway writes that one behind it."""
    request = None
    for name, value in reversed(record.headers):
        if name == "ce_type" and value is not None:
            return value, request
        if name == REQUEST:
            request = value
    return None, request


def _cancelled_inside(error: asyncio.CancelledError) -> RuntimeError:
    return RuntimeError(f"the handler was cancelled from inside: {error!r}")


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _stopped(calls: list[Call], results: list[Result]) -> set[bytes | None]:
    """The keys among them that go no further."""
    pairs = zip(calls, results, strict=False)  # the last ones may not have run yet
    return {call.entry.key for call, result in pairs if result is not SUCCEEDED} - {None}


def _up_to_the_first_failure(entries: Sequence[Entry], results: Sequence[Result]) -> list[Result]:
    """What was known of a record before its key's earlier one had failed is said when its turn comes."""
    stopped: set[bytes] = set()
    found: list[Result] = []
    for entry, result in zip(entries, results, strict=True):
        found.append(NOT_RUN if entry.key in stopped else result)
        if found[-1] is not SUCCEEDED and entry.key is not None:
            stopped.add(entry.key)
    return found


def _blocked(calls: Sequence[Call], result: Blocked) -> list[Result]:
    """Of each key the first record waits; those behind it were not run."""
    seen: set[bytes] = set()
    results: list[Result] = []
    for call in calls:
        key = call.entry.key
        results.append(NOT_RUN if key in seen else result)
        if key is not None:
            seen.add(key)
    return results

"""What a user declares: jobs, event subscriptions, periodic work, queues; and the outcomes a handler may return.

Invariant: everything here is frozen and free of I/O; a declaration that contradicts itself is refused when made.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from streams.core.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from schemas.contract import Contract

    Handler = Callable[[Any, Any], Any]
    Reconcile = Callable[[Any, Any], Awaitable["Done | NotDone | Unknown"]]

Execution = Literal["auto", "process"]


@dataclass(frozen=True, slots=True)
class Done:
    """The work is finished; ``result`` (JSON-able) is kept with the job."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed; try again, after ``after`` seconds if given, else as the policy says."""

    reason: str = "the handler asked to be run again"
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """The attempt failed for good: a dead letter with this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The work was cancelled: the record ends here, neither done nor failed, and its key goes on."""


Outcome = Done | Retry | Reject | Cancelled


@dataclass(frozen=True, slots=True)
class NotDone:
    """A look-up's answer: the provider knows nothing of the effect."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A look-up's answer: the provider cannot tell (yet)."""

    reason: str


class TransientError(Exception):
    """Something the work depends on is away: the key waits and the attempt does not count.

    Raise it from a handler (or an adapter) for faults that have nothing to do with the record, for example an
    unreachable registry, Redis or SQL server. The key waits ``after`` seconds, one unless given.
    """

    def __init__(self, message: str = "", *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class FencedError(TransientError):
    """Another run has taken over the effect of this one, which must not make it: let it pass."""


class OutcomeUnknownError(Exception):
    """Nobody knows whether an effect happened; ``final`` where nothing but an operator can tell.

    Where a handler's own error is the reason, it is the cause.
    """

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


def runs_on_loop(handler: Handler) -> bool:
    """Whether it is an ``async def`` function, or an object called like one."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Hand a handler up to ``size`` records at once, or what has gathered after ``linger`` seconds."""

    size: int = 100
    linger: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """The handler's effect is to happen once: intent and outcome go to the effect ledger.

    Attributes:
        reconcile: ``async def reconcile(payload, ctx)`` looks up at the provider what became of
            ``ctx.idempotency_key`` and returns ``Done(result)``, ``NotDone()`` or ``Unknown(reason)``. Without it, a
            record whose effect may have happened is a dead letter.
        settle: Seconds after the end of a run until the look-up shows for certain what the run sent.
        confirms: The handler awaits ``ctx.confirm()`` before it sends anything; a run that ended before that has sent
            nothing. Otherwise each run that began may have sent something.
    """

    reconcile: Reconcile | None = None
    settle: float = 1.0
    confirms: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out."""
        if self.settle < 0:
            raise ValueError(f"once: settle must not be negative, got {self.settle}")
        if self.reconcile is not None and not runs_on_loop(self.reconcile):
            raise ValueError("once: reconcile must be an 'async def' function")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What jobs and subscriptions have in common.

    Attributes:
        handler: ``async def handler(payload, ctx)`` runs on the loop, a plain function in a thread;
            with ``execution="process"`` it must be a plain module-level function and runs in a process pool.
            With ``batch`` it gets lists: ``handler(payloads, contexts)``.
        timeout: Seconds one run may take; beyond it the run is cancelled and counts as a failed attempt.
        once: Keeps the effect from happening twice; for ``async def`` handlers of single records.
    """

    handler: Handler
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float = 30.0
    execution: Execution = "auto"
    batch: Batch | None = None
    once: Once | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot go together."""
        if self.once is None:
            return
        if self.batch is not None:
            raise ValueError("once: a batch has no single effect to keep; declare the handler without batch")
        if self.execution == "process" or not runs_on_loop(self.handler):
            # A thread cannot be stopped at its time-out, and neither can ask the ledger before it sends.
            raise ValueError("once: the handler must be an 'async def' function that runs on the loop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Work):
    """One job type: records of ``contract`` on the topic of ``queue``.

    Attributes:
        key: Gives the entity part of the record key ``<tenant>/<entity>`` from the payload.
    """

    contract: Contract
    queue: str
    key: Callable[[Any], str]

    @property
    def type(self) -> str:
        """The job type, as in the ``ce_type`` header."""
        return self.contract.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription(Work):
    """One event handler: its own consumer group ``name`` on one event topic.

    Events of the topic that are not among ``contracts`` are passed over.
    """

    name: str
    contracts: tuple[Contract, ...]
    tiers: tuple[float, ...] = (2, 30, 300)
    concurrency: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """Work done every ``every`` seconds by one process of all: ``async def run(services)``.

    What it returns is the lag it found: for how many seconds the oldest that it had to do was due; None tells nothing.
    """

    name: str
    every: float
    run: Callable[[Any], Awaitable[float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A job queue: topic ``jobs.<name>``, consumer group ``<name>``, one fixed delay in seconds per retry tier."""

    name: str
    tiers: tuple[float, ...] = (2, 4, 8, 16)
    concurrency: int = 10
    partitions: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A consumer group over one family of topics, and what it runs by record type.

    Attributes:
        tiers: Delay in seconds of ``retry.1`` .. ``retry.k``, ascending.
        ignore_unknown: Whether a record of a type outside ``works`` is passed over (events) or dead (jobs).
    """

    name: str
    source: str
    tiers: tuple[float, ...]
    partitions: int
    concurrency: int
    works: Mapping[str, Work]
    ignore_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All that a deployment declares, as ``consumers:discover`` returns it.

    Attributes:
        routes: Further HTTP routes of consumers: ``streams.door.RouteSpec`` objects, served by the gateway.
        options: What consumers want from the settings; handlers find it as ``ctx.services.options``.
        examples: Example records with ``type``, ``tenant``, ``entity`` and ``data``, as ``keylane publish`` reads them.
        sample_load: ``sample_load(seed, count)`` yields records for demonstrations, each with ``contract``,
            ``payload``, ``tenant`` and ``entity``.
    """

    queues: tuple[Queue, ...] = ()
    jobs: tuple[Job, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    periodics: tuple[Periodic, ...] = ()
    routes: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    sample_load: Callable[[int, int], Iterable[Any]] | None = None
    event_partitions: int = 8

"""The seams of keylane: what the engine, the gateway and the handlers ask of the outside, as protocols.

Adapters and the in-memory broker of the simulation implement them; ``streams/app.py`` puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from streams.identity import Identity, identify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

    from schemas.contract import Contract
    from streams.core.effects import Standing

SpanKind = Literal["server", "producer", "consumer", "client"]

_NOT_ONCE = "this is for handlers declared with once=Once(...)"


class TopicPartition(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """Where a record was stored."""

    topic: str
    partition: int
    offset: int


class Message(NamedTuple):
    """A record to be written; ``partition`` None lets the key decide (murmur2, as Java's producer)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int | None = None


class Record(Protocol):
    """A record as read from the log; ``timestamp`` in milliseconds since the epoch. aiokafka's own record fits."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class RecordRefusedError(Exception):
    """The broker will never take this record: too large, or for a partition that does not exist."""


class Publisher(Protocol):
    """Writes single records with ``acks=all``."""

    async def publish(self, message: Message) -> Position:
        """Write and wait for the acknowledgement.

        Raises:
            TransientError: The broker did not acknowledge in time; the record may or may not be stored.
            RecordRefusedError: The broker will never take this record.
        """

    def send(self, message: Message) -> Awaitable[Awaitable[Position]]:
        """Queue in order; the inner awaitable ends with the acknowledgement (or raises as ``publish`` does)."""

    def send_many(self, messages: Sequence[Message]) -> Awaitable[Sequence[Awaitable[Position]]]:
        """Queue many in order per partition, as whole batches: each costs less than it would alone.

        The inner awaitables are as those of ``send``; the outer one raises TransientError: none could be queued.
        """

    async def publish_all(self, messages: Sequence[Message]) -> None:
        """Write many, in order per partition, and wait for all acknowledgements.

        Raises:
            TransientError: Not all were acknowledged in time; each of them may or may not be stored.
            RecordRefusedError: The broker will never take one of them; the others may or may not be stored.
        """


class OwnershipLostError(Exception):
    """The group gave our partitions to somebody else: what we hold of them is no longer ours to commit."""


class OutOfRangeError(Exception):
    """The log has no such places (any more); ``positions`` are those that were to be read."""

    def __init__(self, positions: Mapping[TopicPartition, int]) -> None:
        self.positions = positions
        super().__init__(", ".join(f"{place.topic}/{place.partition}@{at}" for place, at in positions.items()))


class Committed(NamedTuple):
    """A committed offset and the text committed with it."""

    offset: int
    metadata: str


class Commits(Protocol):
    """Tells what one consumer group committed."""

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """What the group committed; partitions without a commit are left out.

        Raises:
            TransientError: No broker answered.
        """


class GroupConsumer(Commits, Protocol):
    """One member of a consumer group; the engine is its only user."""

    async def start(self, revoked: Callable[[bool], Awaitable[None]], assigned: Callable[[], None]) -> None:
        """Join the group. ``revoked`` is awaited before partitions are given up, ``assigned`` is called after.

        ``revoked`` is told whether they are lost: the group has dropped this member, and they are somebody else's.
        """

    async def stop(self) -> None:
        """Leave the group (a static member only disconnects); ``revoked`` is not called."""

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions owned now."""

    async def poll(
        self, wait: float, among: Collection[TopicPartition] | None = None
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """What was fetched (of these partitions only, if named), waiting up to ``wait`` seconds for something.

        What was fetched of other partitions stays with the client until it is asked for. Records of transactions
        that were aborted are left out.

        Raises:
            OutOfRangeError: The log does not have what is to be read next; it is for the caller to :meth:`seek`.
            TransientError: The cluster cannot be reached for now.
        """

    def ends(self) -> dict[TopicPartition, int]:
        """The end offsets that the last fetches told of; partitions not fetched yet are left out."""

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit offsets and metadata in one request.

        Raises:
            OwnershipLostError: The group does not accept commits of this member (any more).
            TransientError: The coordinator did not answer; the commit may or may not be stored.
        """

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from ``offset``."""

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Do not fetch these; what was prefetched of them is thrown away and fetched again later."""

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch them again."""


class BatchWriter(Protocol):
    """Writes whole batches, one at a time per partition, so that a batch is stored entirely or not at all."""

    async def renew(self) -> None:
        """Replace the connection after a missing acknowledgement.

        Raises:
            TransientError: No broker can be reached.
        """

    async def write(self, target: TopicPartition, messages: Sequence[Message]) -> list[int]:
        """Store as many of the messages, from the first on, as one batch takes; their offsets.

        Raises:
            TransientError: No acknowledgement: the batch may or may not be stored, and this writer is spent.
            RecordRefusedError: The broker will never take the first message.
        """


class LogReader(Protocol):
    """Reads bounded stretches of partitions without a consumer group (dead letters, look-ups, restore scans)."""

    def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Record]]:
        """Yield batches of records with offsets in ``[start, end)``; ends when every partition has reached its end."""

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """The end offsets of all partitions of the topics that exist."""

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """The log start offsets of all partitions of the topics that exist."""


class LogFollower(Protocol):
    """Reads on and on without a consumer group (what happens, as it happens)."""

    def follow(self, start: Mapping[TopicPartition, int]) -> AsyncIterator[Sequence[Record]]:
        """Yield batches of records from these places on, in offset order within each partition, until it is closed.

        Where nothing comes for a while it yields an empty batch, so that who reads gets a turn.

        Raises:
            OutOfRangeError: The log does not have a place (any more).
            TransientError: A broker is away; follow again from behind what was read.
        """


class RequestState(StrEnum):
    """What is known of a request with an Idempotency-Key."""

    NEW = "new"
    REPLAYED = "replayed"
    IN_FLIGHT = "in-flight"
    REUSED = "reused"


class Found(NamedTuple):
    """``answer`` of a request that was replayed; ``left``: the seconds one in flight has until its mark ends."""

    state: RequestState
    answer: str = ""
    left: float = 0.0


class Requests(Protocol):
    """Remembers requests by their keys. Each method is one atomic step.

    All raise TransientError, soon enough for a request to go on without, when the memory is away.
    """

    async def begin(self, key: str, fingerprint: str, owner: str, seconds: float) -> Found:
        """Note the request as under way for at most so many seconds, unless it is known. Repeated by its owner: NEW."""

    async def finish(self, key: str, fingerprint: str, owner: str, answer: str, seconds: float) -> None:
        """Keep the answer for so many seconds, unless another owner has the request by now."""

    async def release(self, key: str, owner: str) -> None:
        """Forget the request, if it is this owner's."""

    async def statistics(self) -> dict[str, int]:
        """How many requests were in which state, and how many ``released``."""


class GroupOffsets(Protocol):
    """Tells how far consumer groups have come."""

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """The committed offset of every partition the group has committed, the next one to be read.

        Raises:
            TransientError: No broker answered.
        """


class Intent(NamedTuple):
    """What a run is about to do.

    ``armed`` is None, or the seconds for which it may send something as soon as it began.
    ``digest`` tells apart records that bear one id.
    """

    group: str
    key: str
    digest: str
    owner: str
    replays: int
    armed: float | None


class Claim(NamedTuple):
    """The right to make an effect, as long as nobody took a later token."""

    group: str
    key: str
    token: int


class EffectLedger(Protocol):
    """Remembers effects that must happen once. Each method is one atomic step, stored when it returns.

    All of them raise TransientError when the ledger is away: the step may or may not be stored.
    """

    async def begin(self, intent: Intent) -> Standing:
        """Note the intent, or take the token from the run before, unless the effect is finished."""

    async def arm(self, claim: Claim, seconds: float, replays: int) -> bool:
        """Allow the claim's holder to send something within the next seconds; False: it holds it no longer."""

    async def release(self, claim: Claim, seconds: float | None) -> bool:
        """Note that a run has ended: what it sent shows within so many seconds, None: it sent nothing.

        False, and nothing noted: it holds the claim no longer.
        """

    async def finish(self, claim: Claim, result: str) -> bool:
        """Note that the effect happened, whoever holds the claim; False: it was not ours, or finished before.

        ``result`` is JSON in ASCII.
        """

    async def forget(self, age: float) -> None:
        """Delete what was finished, or came to nothing, so many seconds ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """An e-mail of two bodies; header fields with CR, LF or NUL are refused by the transport."""

    to: str
    subject: str
    text: str
    html: str
    message_id: str


class Mail(Protocol):
    """An e-mail transport."""

    async def send(self, email: Email) -> None:
        """Hand the e-mail over.

        Raises:
            MailRefusedError: The provider refused this very e-mail; sending it again cannot help.
            OSError: The provider did not answer.
        """


class MailRefusedError(Exception):
    """The provider refused this e-mail for good."""


class Emit(Protocol):
    """Publishes an event or job from inside a handler: encoded by its contract, keyed ``<tenant>/<entity>``."""

    async def __call__(
        self, contract: Contract, payload: Any, *, tenant: str, entity: str, event_id: str, topic: str | None = None
    ) -> Position:
        """Publish with ``acks=all``; ``event_id`` becomes ``ce_id``, ``topic`` defaults to the contract's."""


class Span(Protocol):
    """One step of a trace; ``streams/tracing/names.py`` has the names of all steps and attributes."""

    @property
    def recording(self) -> bool:
        """Whether anybody will see the attributes: of a trace that is not sampled they need not be made."""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""

    def put(self, name: str, value: str | int) -> None:
        """Set an attribute."""

    def failed(self, kind: str) -> None:
        """Note what kind of error ended it; never the error's text, which may hold what nobody else should see."""

    def headers(self) -> list[tuple[str, str]]:
        """What a record carries so that its reader goes on with the trace: W3C ``traceparent``, ``tracestate``."""

    def current(self) -> AbstractContextManager[None]:
        """Spans that start inside, of ours or of instrumented libraries, are its children; it ends with the block."""

    def end(self) -> None:
        """End it, where there is no block."""


class Tracing(Protocol):
    """Makes spans. Where tracing is off there is none of these, and nothing of what follows is called."""

    def start(self, name: str, kind: SpanKind, carried: Sequence[Mapping[str, str]] = ()) -> Span:
        """A span under the current one.

        Args:
            name: As in the table of names.
            kind: As in the table of names.
            carried: Headers of what it is about. A single one's trace is gone on with where there is no current span;
                those of a consumer are linked as well.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What handlers may use; the same object for all of them, made in ``streams/app.py``."""

    emit: Emit
    mail: Mail
    redis: Redis
    sql: AsyncEngine
    log_reader: LogReader
    group_offsets: GroupOffsets
    options: Mapping[str, Any] = field(default_factory=dict)


class Context:
    """What a handler knows about the run it is in; what stands in headers is read when it is asked for.

    Attributes:
        type: The event or job type.
        attempt: 1 for the first run; in-place waits, tiers and laps count on; a replay starts anew.
        services: What handlers may use; None in a handler that runs in a process of its own.
    """

    __slots__ = ("_group", "_identity", "_record", "attempt", "services", "type")

    def __init__(self, record: Record, group: str, type_name: str, attempt: int, services: Services) -> None:
        self._record = record
        self._group = group
        self._identity: Identity | None = None
        self.type = type_name
        self.attempt = attempt
        self.services = services

    @property
    def id(self) -> str:
        """The event or job id (``ce_id``; where a publisher gave none, ``<topic>/<partition>/<offset>``)."""
        return self._who.id

    @property
    def idempotency_key(self) -> str:
        """The same for every run of this record: hand it to providers."""
        return self._who.idempotency_key(self._group)

    @property
    def tenant(self) -> str:
        """The tenant part of the record key, ``""`` where there is none."""
        return self._who.tenant

    @property
    def key(self) -> str | None:
        """The record key as text."""
        return self._who.key

    @property
    def topic(self) -> str:
        """The topic the record was published to, wherever it has moved."""
        return self._who.origin[0]

    @property
    def partition(self) -> int:
        """The partition it was published to."""
        return self._who.origin[1]

    @property
    def offset(self) -> int:
        """The offset it was published at."""
        return self._who.origin[2]

    @property
    def read_at(self) -> Position:
        """Where it was read for this run: its own topic, or a retry or dead-letter topic of the group."""
        return Position(self._record.topic, self._record.partition, self._record.offset)

    @property
    def timestamp(self) -> int:
        """The record's, in milliseconds since the epoch."""
        return self._record.timestamp

    @property
    def headers(self) -> Mapping[str, str]:
        """The record's headers; bytes that are not UTF-8 are replaced."""
        return {name: (value or b"").decode(errors="replace") for name, value in self._record.headers}

    @property
    def trace(self) -> Mapping[str, str]:
        """The trace the record was made in, as its headers ``traceparent`` and ``tracestate``."""
        return {
            name: value.decode(errors="replace")
            for name, value in self._record.headers
            if name in {"traceparent", "tracestate"} and value is not None
        }

    @property
    def replays(self) -> int:
        """How often the record was replayed from the dead letters."""
        return self._who.replays

    @property
    def digest(self) -> str:
        """Of key and value: the same for every run of this record, another one for another record."""
        key, value = self._record.key or b"", self._record.value or b""
        return blake2b(b"%d:%b%b" % (len(key), key, value), digest_size=16).hexdigest()

    @property
    def fencing_token(self) -> int:
        """Rises with every run of a record, for providers that refuse a smaller one: for handlers marked ``once``."""
        raise TypeError(_NOT_ONCE)

    async def confirm(self) -> None:
        """Make sure, right before sending, that no other run has taken over: for handlers marked ``once``.

        Raises:
            FencedError: Another one has.
            TransientError: The ledger is away.
        """
        raise TypeError(_NOT_ONCE)

    def under(self, fence: Fence) -> Context:
        """A copy for a handler marked ``once``."""
        return _OnceContext(self._record, self._group, self.type, self.attempt, self.services, fence)

    def without_services(self) -> Context:
        """A copy for another process: connections cannot be handed over."""
        return Context(self._record, self._group, self.type, self.attempt, None)  # type: ignore[arg-type]

    @property
    def _who(self) -> Identity:
        if self._identity is None:
            self._identity = identify(self._record)
        return self._identity


class Fence(Protocol):
    """Stands between a run and its effect."""

    token: int

    async def confirm(self) -> None:
        """See :meth:`Context.confirm`."""


class _OnceContext(Context):
    __slots__ = ("_fence",)

    def __init__(
        self, record: Record, group: str, type_name: str, attempt: int, services: Services, fence: Fence
    ) -> None:
        super().__init__(record, group, type_name, attempt, services)
        self._fence = fence

    @property
    def fencing_token(self) -> int:
        return self._fence.token

    async def confirm(self) -> None:
        await self._fence.confirm()

"""The seams of keylane: what the engine, the gateway and the handlers ask of the outside, as protocols.

Adapters and the in-memory broker of the simulation implement them; ``streams/app.py`` puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from aiohttp import web
    from pydantic import BaseModel
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

    from schemas.contract import Contract, Problem
    from streams.history import JobRow


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


class OwnershipLostError(Exception):
    """The group gave our partitions to somebody else: what we hold of them is no longer ours to commit."""


class Committed(NamedTuple):
    """A committed offset and the text committed with it."""

    offset: int
    metadata: str


class GroupConsumer(Protocol):
    """One member of a consumer group; the engine is its only user."""

    async def start(self, revoked: Callable[[], Awaitable[None]], assigned: Callable[[], None]) -> None:
        """Join the group. ``revoked`` is awaited before partitions are given up, ``assigned`` is called after."""

    async def stop(self) -> None:
        """Leave the group (a static member only disconnects); ``revoked`` is not called."""

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions owned now."""

    async def poll(self, wait: float) -> Mapping[TopicPartition, Sequence[Record]]:
        """All that was fetched, waiting up to ``wait`` seconds for something.

        Raises:
            TransientError: The cluster cannot be reached for now.
        """

    def ends(self) -> dict[TopicPartition, int]:
        """The end offsets that the last fetches told of; partitions not fetched yet are left out."""

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        """What the group committed; partitions without a commit are left out."""

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


class GroupOffsets(Protocol):
    """Tells how far consumer groups have come."""

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """The committed offset of every partition the group has committed, the next one to be read.

        Raises:
            TransientError: No broker answered.
        """


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a handler knows about the run it is in.

    Attributes:
        id: The event or job id (``ce_id``; where a publisher gave none, ``<topic>/<partition>/<offset>``).
        attempt: 1 for the first run; in-place waits, tiers and laps count on; a replay starts anew.
        idempotency_key: The same for every run of this record: hand it to providers.
    """

    id: str
    type: str
    tenant: str
    key: str | None
    attempt: int
    idempotency_key: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    headers: Mapping[str, str]
    services: Services


class Progress(Protocol):
    """How far a consumer group has come with a topic."""

    async def end(self, key: bytes) -> tuple[TopicPartition, int]:
        """The partition records of the key go to, and its end as of now.

        Raises:
            TransientError: The broker did not answer, or the topic does not exist.
        """

    async def reached(self, partition: TopicPartition, offset: int) -> bool:
        """Whether the group has finished everything before the offset.

        Raises:
            TransientError: The broker did not answer.
        """


class JobHistory(Protocol):
    """Reads what the ``job-status`` topic said about jobs."""

    async def find(self, job_id: str) -> JobRow | None:
        """The job, or None if its first status has not been stored (yet).

        Raises:
            TransientError: The database is away.
        """


class ProblemError(Exception):
    """A request that is not carried out; the gateway turns it into an RFC 9457 answer.

    Args:
        kind: A key of ``KINDS`` in ``streams/gateway/problems.py``, which gives status and title, for example
            ``invalid-request`` 400, ``not-found`` 404, ``duplicate`` 409, ``rate-limited`` 429, ``internal`` 500,
            ``unavailable`` 503.
        detail: One sentence for the client; says what to do next and repeats no secret.
        errors: The places at fault in the body.
        retry_after: Whole seconds, becomes the ``Retry-After`` header.
        extra: Further members of the answer; names of three or more characters.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[Problem] = (),
        retry_after: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = dict(extra or {})


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job the broker has acknowledged; ``location`` is the path where it can be looked at."""

    id: str
    location: str
    position: Position


class Door(Protocol):
    """What the gateway gives to consumers' own routes."""

    @property
    def redis(self) -> Redis:
        """For limits and duplicates; may be away (``redis.exceptions.RedisError``)."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What consumers want from the settings: the catalogue's ``options``."""

    async def payload(self, request: web.Request, contract: Contract) -> Any:
        """The JSON body of the request as a payload of the contract.

        Raises:
            ProblemError: The body is too long, not JSON, too deep, of another media type or does not fit.
        """

    async def submit_job(
        self, contract: Contract, payload: Any, *, tenant: str, entity: str | None = None, job_id: str | None = None
    ) -> Accepted:
        """Publish a job and its ``pending`` status with ``acks=all``.

        Args:
            contract: Of a job in the catalogue.
            payload: A model of the contract, as ``payload`` returns it.
            tenant: The tenant part of the record key.
            entity: The entity part; by default the job's own ``key`` gives it.
            job_id: By default a new UUIDv7.

        Raises:
            ProblemError: The broker does not acknowledge (``unavailable``); the job may or may not be stored.
        """

    async def job(self, job_id: str) -> dict[str, Any] | None:
        """The job as ``GET /api/v1/jobs/{id}`` shows it, or None: never None for a job accepted before.

        Raises:
            ProblemError: The history is away or too far behind to know (``unavailable``).
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """An HTTP route and its documentation: ``/openapi.json`` is made from these.

    Attributes:
        path: As aiohttp writes it, for example ``/api/jobs/{id}``.
        build: Makes the handler, once, from what the gateway gives.
        body: The model of the JSON body.
        other_bodies: Models of the body in further media types, by media type.
        query: The model of the query parameters.
        answer: The model of the successful answer.
        statuses: What each status means; those from 400 up are answered as problems, unless ``answers_errors``.
    """

    method: str
    path: str
    summary: str
    build: Callable[[Door], Callable[[web.Request], Awaitable[web.StreamResponse]]]
    statuses: Mapping[int, str]
    body: type[BaseModel] | None = None
    other_bodies: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    query: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    answers_errors: bool = False

"""The seams of keylane: what the engine, the gateway and the handlers ask of the outside, as protocols.

Adapters and the in-memory broker of the simulation implement them; ``streams/app.py`` puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence

    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

    from schemas.contract import Contract


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


class Publisher(Protocol):
    """Writes single records with ``acks=all``."""

    async def publish(self, message: Message) -> Position:
        """Write and wait for the acknowledgement.

        Raises:
            TransientError: The broker did not acknowledge in time; the record may or may not be stored.
        """

    def send(self, message: Message) -> Awaitable[Awaitable[Position]]:
        """Queue in order; the inner awaitable ends with the acknowledgement (or raises as ``publish`` does)."""


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

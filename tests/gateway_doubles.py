"""In-memory stand-ins for what the gateway depends on, and the gateway on top of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from aiohttp.test_utils import TestClient, TestServer

from schemas.catalogue import contracts
from schemas.codec import Codec
from schemas.notification_signin.model import CONTRACT as SIGNIN
from streams.adapters.metrics import PrometheusMetrics
from streams.deadletters.entry import Family
from streams.deadletters.operation import Operations
from streams.deadletters.reading import DeadLetters
from streams.deadletters.writing import Clock
from streams.gateway.app import HEALTH, Parts, create_app
from streams.gateway.looks import NothingThereError
from streams.gateway.lookviews import LaneView, QueueList, QueueView, TopicList
from streams.gateway.queues import Queues
from streams.gateway.serving import Runner
from streams.groups import groups
from streams.history import Mark, merge, row
from streams.job import Catalogue, Job, Queue
from streams.live.feed import Feed
from streams.live.reading import Reading
from streams.live.rewind import Rewind
from streams.ports import Found, Position, RequestState, TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiohttp import web
    from redis.asyncio import Redis

    from schemas.job_status.model import Status
    from streams.audit import Act
    from streams.history import JobFilters, JobRow
    from streams.ports import Committed, Message, Record

PAYLOAD = {
    "user_id": "user-1",
    "email": "bat@example.com",
    "name": "Бат",
    "provider": "google",
    "ip_address": "203.0.113.7",
    "user_agent": "Mozilla/5.0",
    "timestamp": "2026-11-24T10:00:00+08:00",
}
HELD = {
    "reservation_id": "r-1",
    "resource_id": "room-1",
    "customer_email": "bat@example.com",
    "customer_name": "Бат",
    "starts_at": "2026-12-01T10:00:00+08:00",
    "ends_at": "2026-12-02T10:00:00+08:00",
    "quantity": 1,
    "expires_at": "2026-11-24T10:15:00+08:00",
}
TOPICS = ("job-status", "events.reservation")
CLOCK = Clock(time.time, time.monotonic, asyncio.sleep)
EXAMPLE = {"type": SIGNIN.name, "tenant": "steppe", "entity": "user-1", "data": PAYLOAD}


class MemoryRegistry:
    """A schema registry whose ids are positions in a list."""

    def __init__(self) -> None:
        self.schemas: list[str] = []
        self.away: Exception | None = None

    async def register(self, _subject: str, schema: str) -> int:
        if self.away:
            raise self.away
        if schema not in self.schemas:
            self.schemas.append(schema)
        return self.schemas.index(schema)

    async def schema(self, schema_id: int) -> str:
        return self.schemas[schema_id]

    async def lookup(self, subject: str, schema: str) -> int:
        return await self.register(subject, schema)

    async def close(self) -> None:
        """Nothing to close."""


class MemoryLog:
    """Publisher and log reader; ``faults`` are raised by topic, a topic in ``hangs`` acknowledges after ``go``.

    ``refuse_next`` is raised once.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.faults: dict[str, Exception] = {}
        self.hangs: set[str] = set()
        self.go = asyncio.Event()
        self.grown = asyncio.Event()
        self.cut: Exception | None = None
        self.begins: dict[str, int] = {}
        self.unreadable: Exception | None = None
        self.passes = 0
        self.refuse_next: Exception | None = None

    def of(self, topic: str) -> list[Message]:
        return [message for message in self.messages if message.topic == topic]

    async def publish(self, message: Message) -> Position:
        if message.topic in self.hangs:
            await self.go.wait()
        if self.refuse_next is not None:
            refusal, self.refuse_next = self.refuse_next, None
            raise refusal
        if message.topic in self.faults:
            raise self.faults[message.topic]
        self.messages.append(message)
        self.grown.set()
        self.grown = asyncio.Event()
        return Position(message.topic, 0, len(self.of(message.topic)) - 1)

    async def send(self, message: Message) -> Any:
        return asyncio.ensure_future(self.publish(message))

    async def send_many(self, messages: Sequence[Message]) -> Any:
        return [asyncio.ensure_future(self.publish(message)) for message in messages]

    async def read(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[Sequence[Record]]:
        if self.unreadable:
            raise self.unreadable
        self.passes += 1
        for place, limit in end.items():
            yield [
                MemoryRecord(place.topic, 0, offset, message.key, message.value, message.headers)
                for offset, message in enumerate(self.of(place.topic))
                if start.get(place, 0) <= offset < limit
            ]

    async def follow(self, start: Mapping[TopicPartition, int]) -> AsyncIterator[Sequence[Record]]:
        at = dict(start)
        while True:
            if self.cut:
                cut, self.cut = self.cut, None
                raise cut
            grown = self.grown
            async for records in self.read(at, await self.ends([place.topic for place in at])):
                for record in records:
                    at[TopicPartition(record.topic, 0)] = record.offset + 1
                yield records
            await asyncio.wait([asyncio.ensure_future(grown.wait())], timeout=0.01)

    async def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, 0): len(self.of(topic)) for topic in topics}

    async def starts(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        return {TopicPartition(topic, 0): self.begins.get(topic, 0) for topic in topics}


@dataclass
class MemoryRecord:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int = 1_700_000_000_000


class NoCommits:
    """The commits of a group that has never read anything."""

    def __init__(self, group: str) -> None:
        self.group = group

    async def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Committed]:
        return {}


class MemoryHistory:
    """The history, fed by hand; also tells how far it has come."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], JobRow] = {}
        self.away: Exception | None = None
        self.caught_up = True

    def store(self, status: Status) -> None:
        new = row(status)
        self.rows[new.identity] = merge(self.rows.get(new.identity, new), new)

    async def find(self, job_id: str, tenant: str | None = None) -> JobRow | None:
        if self.away:
            raise self.away
        found = [row for row in self.rows.values() if row.job_id == job_id and tenant in {None, row.tenant}]
        return max(found, key=lambda row: row.updated_at, default=None)

    async def page(self, filters: JobFilters, behind: Mark | None, most: int) -> list[JobRow]:
        if self.away:
            raise self.away
        found = [row for row in self.rows.values() if meant(filters, row) and (behind is None or mark(row) < behind)]
        return sorted(found, key=mark, reverse=True)[:most]

    async def unfinished(self) -> dict[tuple[str, str], int]:
        if self.away:
            raise self.away
        return {}

    async def ends(self) -> dict[TopicPartition, int]:
        return {TopicPartition("job-status", 0): 1}

    async def reached(self, _ends: Mapping[TopicPartition, int]) -> bool:
        return self.caught_up


def mark(row: JobRow) -> Mark:
    return Mark(row.created_at, row.job_id)


def meant(filters: JobFilters, row: JobRow) -> bool:
    after, before = filters.created_after or 0, filters.created_before or 10**15
    names = ("tenant", "type", "queue", "status", "key")
    same = all(getattr(filters, name) in {None, getattr(row, name)} for name in names)
    return same and after <= row.created_at < before


class MemoryLooks:
    """Looks at nothing much, and counts how often; ``away`` is raised."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.away: Exception | None = None

    async def lane(self, key: str, group: str | None) -> LaneView:
        self._note(f"{key} {group}")
        if group == "nothing":
            raise NothingThereError("There is no group 'nothing'")
        return LaneView(key=key, at="2026-11-24T10:00:00Z", groups=[], not_known=[])

    async def queues(self) -> QueueList:
        self._note("queues")
        return QueueList(
            at="2026-11-24T10:00:00Z", queues=[QueueView(group="emails", problem="jobs.emails is missing")]
        )

    async def topics(self) -> TopicList:
        self._note("topics")
        return TopicList(at="2026-11-24T10:00:00Z", topics=[])

    def _note(self, what: str) -> None:
        if self.away:
            raise self.away
        self.looked.append(what)


class MemoryTickets:
    """Tickets that never grow old; ``away`` is raised."""

    def __init__(self) -> None:
        self.holders: dict[str, str] = {}
        self.away: Exception | None = None

    async def issue(self, holder: str) -> str:
        if self.away:
            raise self.away
        ticket = f"t{len(self.holders)}"
        self.holders[ticket] = holder
        return ticket

    async def take(self, ticket: str) -> str | None:
        return self.holders.pop(ticket, None)


class MemoryAudit:
    """The audit trail as a list; ``away`` is raised."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.away: Exception | None = None

    async def record(self, act: Act) -> None:
        if self.away:
            raise self.away
        self.acts.append(act)


class MemoryRequests:
    """The ``Requests`` port; what ``away`` holds is raised. Marks do not end by themselves here."""

    def __init__(self) -> None:
        self.known: dict[str, list[str | None]] = {}
        self.counted: Counter[str] = Counter()
        self.calls: list[str] = []
        self.away: Exception | None = None

    async def begin(self, key: str, fingerprint: str, owner: str, seconds: float) -> Found:
        self._called("begin")
        print_, _, answer = known = self.known.setdefault(key, [fingerprint, owner, None])
        state = RequestState.NEW if known[1] == owner else RequestState.IN_FLIGHT
        if print_ != fingerprint:
            state = RequestState.REUSED
        elif answer is not None:
            state = RequestState.REPLAYED
        self.counted[state] += 1
        return Found(state, answer or "", 1.0)

    async def finish(self, key: str, fingerprint: str, owner: str, answer: str, seconds: float) -> None:
        self._called("finish")
        if self.known.get(key, [None, owner])[1] == owner:
            self.known[key] = [fingerprint, owner, answer]

    async def release(self, key: str, owner: str) -> None:
        self._called("release")
        if self.known.get(key, [None, None])[1] == owner:
            self.counted["released"] += 1
            del self.known[key]

    async def statistics(self) -> dict[str, int]:
        self._called("statistics")
        return dict(self.counted)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.away:
            raise self.away


class GatewayServer(TestServer):
    """Serves the gateway as it is served, on a free port."""

    async def _make_runner(self, **options: Any) -> Runner:
        return Runner(self.app, **options)


@dataclass
class Bench:
    """A gateway on stand-ins, and a client of it."""

    log: MemoryLog = field(default_factory=MemoryLog)
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    history: MemoryHistory = field(default_factory=MemoryHistory)
    audit: MemoryAudit = field(default_factory=MemoryAudit)
    looks: MemoryLooks = field(default_factory=MemoryLooks)
    tickets: MemoryTickets = field(default_factory=MemoryTickets)
    metrics: PrometheusMetrics = field(default_factory=PrometheusMetrics)
    requests: MemoryRequests = field(default_factory=MemoryRequests)
    catalogue: Catalogue = field(default_factory=lambda: CATALOGUE)
    changes: dict[str, Any] = field(default_factory=dict)
    longest_value: int = 1_048_576

    @property
    def codec(self) -> Codec:
        return Codec(self.registry, contracts(), max_bytes=self.longest_value)

    @property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.log, [Family("jobs.emails", "emails")], max_replays=3)

    def app(self) -> web.Application:
        parts: dict[str, Any] = {
            "publisher": self.log,
            "codec": self.codec,
            "contracts": contracts(),
            "catalogue": self.catalogue,
            "history": self.history,
            "progress": self.history,
            "letters": self.letters,
            "operations": lambda caller: Operations(self.letters, self.log, CLOCK, by=f"{caller}@bench:1"),
            "rewind": Rewind(self.log, Reading(self.codec, self.metrics)),
            "tickets": self.tickets,
            "feed": Feed(self.log, self.log, Reading(self.codec, self.metrics), TOPICS, self.metrics),
            "audit": self.audit,
            "looks": self.looks,
            "queues": Queues(groups(self.catalogue), self.log, NoCommits, self.history.unfinished, time.monotonic),
            "redis": cast("Redis", object()),
            "requests": self.requests,
            "metrics": self.metrics,
            "shown": self.metrics,
            "base_url": "https://keylane.example",
            "version": "1.2.3",
            "max_body_bytes": 100_000,
            "patience": 0.2,
            "lookup_patience": 0.2,
        }
        return create_app(Parts(**parts | self.changes))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[TestClient[web.Request, web.Application]]:
        app = self.app()
        async with TestClient(GatewayServer(app)) as client:
            app[HEALTH].started = True
            yield client

    async def payloads(self, topic: str) -> list[Any]:
        codec, found = self.codec, []
        for message in self.log.of(topic):
            assert message.value is not None
            await codec.load(message.value)
            payload = codec.decode_now(message.value)
            assert payload is not None
            found.append(payload.model)
        return found


async def _never(_payload: object, _ctx: object) -> None:
    raise NotImplementedError


CATALOGUE = Catalogue(
    queues=(Queue(name="emails"),),
    jobs=(Job(contract=SIGNIN, queue="emails", key=lambda signin: signin.user_id, handler=_never),),
    examples=(EXAMPLE,),
)
JOB = {"type": SIGNIN.name, "tenant": "steppe", "payload": PAYLOAD}
EVENT = {"type": "reservation.held", "tenant": "steppe", "key": "r-1", "data": HELD}

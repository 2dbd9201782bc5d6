"""A sign-in job from the topic to the mail server, through the retry tiers of the real broker."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from consumers.queues import QUEUES
from consumers.signin import JOB
from schemas.codec import Codec
from schemas.notification_signin.model import Signin
from streams.adapters.kafka.batches import KafkaBatchWriter
from streams.adapters.kafka.group import KafkaGroupConsumer
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.mail import SmtpMail
from streams.adapters.metrics import PrometheusMetrics
from streams.adapters.redis import connect
from streams.core.group import Limits
from streams.engine.calls import Calls
from streams.engine.engine import Engine, EngineOptions
from streams.engine.family import Family
from streams.engine.outbox import Outbox
from streams.engine.runner import Runner
from streams.engine.telemetry import Telemetry
from streams.event import Attributes, record_key, to_headers
from streams.job import Group
from streams.ports import Message
from tests.consumer_context import services
from tests.eventually import eventually
from tests.integration.engine_kit import MemoryRegistry
from tests.smtp_server import Inbox, smtp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.settings import Settings
    from tests.servers import CreateTopics

FASTER = 0.02  # the tiers of the queue, times this


class Life:
    """The queue ``emails`` under another name, a publisher, and what became of the jobs."""

    def __init__(self, settings: Settings, name: str) -> None:
        queue = next(queue for queue in QUEUES if queue.name == JOB.queue)
        tiers = tuple(delay * FASTER for delay in queue.tiers)
        self.options = client_options(settings)
        self.group = Group(
            name=name, source=f"jobs.{name}", tiers=tiers, partitions=2, concurrency=10, works={JOB.type: JOB}
        )
        self.family = Family(self.group)
        self.codec = Codec(MemoryRegistry(), [JOB.contract])
        self.publisher = KafkaPublisher(self.options)
        self.reader = KafkaLogReader(self.options)
        self.tenant = name

    async def publish(self, job_id: str, user: str = "user-1") -> None:
        signin = Signin(
            user_id=user,
            email=f"{user}@example.com",
            name="Бат",
            provider="google",
            ip_address="203.0.113.7",
            user_agent="",
            timestamp=datetime(2026, 11, 24, 2, 5, tzinfo=UTC),
        )
        headers = to_headers(Attributes(id=job_id, type=JOB.type))
        value = await self.codec.encode(JOB.contract, signin)
        await self.publisher.publish(Message(self.group.source, record_key(self.tenant, user), value, headers, 0))

    async def dead(self) -> list[dict[str, str]]:
        """The headers of the dead letters."""
        ends = await self.reader.ends([self.family.dlt])
        return [
            {name: value.decode(errors="replace") for name, value in record.headers}
            async for records in self.reader.read({}, ends)
            for record in records
        ]


@asynccontextmanager
async def worker(life: Life, mail: Any, redis: Any) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        writer, outbox, calls = KafkaBatchWriter(life.options), Outbox(life.publisher), Calls(1)
        await writer.start()
        stack.push_async_callback(writer.stop)
        outbox.start()
        stack.push_async_callback(outbox.stop)
        telemetry = Telemetry(life.group.name, PrometheusMetrics(), outbox, None, life.family.dlt)
        given = services(redis=redis, mail=mail)
        engine = Engine(
            life.family,
            life.group.tiers,
            Limits(concurrency=10),
            EngineOptions(drain_timeout=3.0),
            consumer=KafkaGroupConsumer(
                life.options,
                group=life.group.name,
                topics=list(life.family.shelves),
                session_timeout=6,
                rebalance_timeout=10,
            ),
            reader=life.reader,
            writer=writer,
            runner=Runner(life.group, life.codec, given, calls, telemetry, random.random, "test"),
            telemetry=telemetry,
        )
        running = asyncio.create_task(engine.run())
        await asyncio.wait_for(engine.ready.wait(), 30)
        yield
        engine.stop()
        await running


@pytest.fixture
async def life(settings: Settings, unique: Callable[[str], str], create_topics: CreateTopics) -> AsyncIterator[Life]:
    life = Life(settings, unique("emails"))
    await create_topics(*life.family.shelves, partitions=2)
    yield life
    await life.publisher.stop()


@pytest.fixture
async def inbox(life: Life, redis_url: str) -> AsyncIterator[Inbox]:
    redis = connect(redis_url)
    async with smtp_server() as inbox:
        mail = SmtpMail(host="127.0.0.1", port=inbox.port, sender="no-reply@shop.example")
        async with worker(life, mail, redis):
            yield inbox
    await redis.aclose()


async def test_a_mail_refused_four_times_arrives_once_by_the_fifth_attempt(life: Life, inbox: Inbox) -> None:
    inbox.refuse("RCPT", *["451 try later"] * 4)
    await life.publish("job-1")

    async def arrived() -> bool:
        return bool(inbox.messages)

    await eventually(arrived, within=30)
    assert inbox.recipients == ["user-1@example.com"]
    assert inbox.answers["RCPT"] == []
    assert await life.dead() == []


async def test_after_five_attempts_the_job_is_a_dead_letter_and_the_users_next_mail_still_comes(
    life: Life, inbox: Inbox
) -> None:
    inbox.refuse("RCPT", *["451 try later"] * 5)
    await life.publish("job-1")
    await life.publish("job-2")

    async def ended() -> bool:
        return bool(inbox.messages) and bool(await life.dead())

    await eventually(ended, within=30)
    (letter,) = await life.dead()
    assert (letter["ce_id"], letter["kl-attempts"], letter["kl-classification"]) == ("job-1", "5", "exhausted")
    assert "451" in letter["kl-message"]
    assert len(inbox.messages) == 1


async def test_the_same_job_published_twice_sends_one_mail(life: Life, inbox: Inbox) -> None:
    for job_id in ("job-1", "job-1", "job-2"):
        await life.publish(job_id)

    async def both() -> bool:
        return len(inbox.messages) >= 2

    await eventually(both, within=30)
    assert len({message["Message-ID"] for message in inbox.messages}) == len(inbox.messages) == 2


def test_the_tiers_are_those_of_the_queue() -> None:
    queue = next(queue for queue in QUEUES if queue.name == JOB.queue)
    assert queue.tiers == (2, 4, 8, 16)
    assert JOB.retry.attempts == len(queue.tiers) + 1

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from consumers.signin.handler import handle
from consumers.signin.limit import member_of, subject_of, window
from schemas.notification_signin.model import Signin
from streams.adapters.mail import SmtpMail
from streams.adapters.redis import connect
from streams.dev import ports
from streams.job import Done, Reject, TransientError
from streams.ports import MailRefusedError
from tests.consumer_context import OPTIONS, Outbox, context, only, services
from tests.smtp_server import parts, smtp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from streams.job import Outcome
    from streams.ports import Email


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def tenant(unique: Callable[[str], str]) -> str:
    return unique("tenant")


def signin(user: str = "user-1", **changes: Any) -> Signin:
    fields: dict[str, Any] = {
        "user_id": user,
        "email": "bat@example.com",
        "name": "Бат",
        "provider": "google",
        "ip_address": "203.0.113.7",
        "user_agent": "",
        "timestamp": datetime(2026, 11, 24, 2, 5, tzinfo=UTC),
    }
    return Signin(**{**fields, **changes})


class Worker:
    """Runs sign-in jobs of one tenant."""

    def __init__(self, redis: Redis, tenant: str, mail: Any) -> None:
        self.services = services(redis=redis, mail=mail)
        self.tenant = tenant

    async def run(self, job_id: str, payload: Signin | None = None) -> Outcome:
        outcome: Outcome = await handle(
            payload or signin(), context(self.services, record_id=job_id, tenant=self.tenant)
        )
        return outcome


async def test_a_job_sends_its_mail_and_says_so(redis: Redis, tenant: str) -> None:
    outbox = Outbox()
    outcome = await Worker(redis, tenant, outbox).run("job-1")
    email: Email = only(outbox.sent)
    assert outcome == Done({"mail": "sent", "message_id": email.message_id})
    assert email.to == "bat@example.com"
    assert "203.0.113.7" in email.text
    assert "203.0.113.7" in email.html


async def test_a_finished_job_that_runs_again_sends_nothing(redis: Redis, tenant: str) -> None:
    outbox = Outbox()
    worker = Worker(redis, tenant, outbox)
    await worker.run("job-1")
    assert await worker.run("job-1") == Done({"mail": "was sent before"})
    assert len(outbox.sent) == 1


async def test_two_workers_with_one_job_send_one_mail(redis: Redis, tenant: str) -> None:
    sending, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Outbox):
        async def send(self, email: Email) -> None:
            sending.set()
            await go_on.wait()
            await super().send(email)

    outbox = Slow()
    first = asyncio.create_task(Worker(redis, tenant, outbox).run("job-1"))
    await sending.wait()
    with pytest.raises(TransientError, match="another worker"):
        await Worker(redis, tenant, outbox).run("job-1")
    go_on.set()
    assert isinstance(await first, Done)
    assert len(outbox.sent) == 1


async def test_a_temporary_refusal_fails_the_attempt_and_the_next_one_delivers(redis: Redis, tenant: str) -> None:
    async with smtp_server() as inbox:
        worker = Worker(redis, tenant, SmtpMail(host="127.0.0.1", port=inbox.port, sender="no-reply@shop.example"))
        inbox.refuse("RCPT", "451 try later", "451 try later")
        for _ in range(2):
            with pytest.raises(OSError, match="451"):
                await worker.run("job-1")
        outcome = await worker.run("job-1")
    message = only(inbox.messages)
    assert isinstance(outcome, Done)
    assert outcome.result["message_id"] == message["Message-ID"]
    assert "Сайн байна уу, Бат!" in parts(message)["text/plain"]
    assert "Сайн байна уу, Бат!" in parts(message)["text/html"]


async def test_every_attempt_has_the_same_message_id_and_other_jobs_have_others(redis: Redis, tenant: str) -> None:
    class Forgetful(Outbox):
        async def send(self, email: Email) -> None:
            await super().send(email)
            raise OSError("the connection broke after the data")

    outbox = Forgetful()
    worker = Worker(redis, tenant, outbox)
    for job_id in ("job-1", "job-1", "job-2"):
        with pytest.raises(OSError, match="broke"):
            await worker.run(job_id)
    first, again, other = (email.message_id for email in outbox.sent)
    assert first == again != other


async def test_a_recipient_refused_for_good_is_a_dead_letter(redis: Redis, tenant: str) -> None:
    async with smtp_server() as inbox:
        worker = Worker(redis, tenant, SmtpMail(host="127.0.0.1", port=inbox.port, sender="no-reply@shop.example"))
        inbox.refuse("RCPT", "550 no such user")
        outcome = await worker.run("job-1")
    assert isinstance(outcome, Reject)
    assert "550" in outcome.reason
    assert "bat@" not in outcome.reason


async def test_a_rejected_job_may_be_replayed(redis: Redis, tenant: str) -> None:
    outbox = Outbox(MailRefusedError("mailbox full"))
    worker = Worker(redis, tenant, outbox)
    assert await worker.run("job-1") == Reject("mailbox full")
    assert isinstance(await worker.run("job-1"), Done)


async def test_the_eleventh_mail_of_a_user_within_an_hour_is_a_dead_letter(redis: Redis, tenant: str) -> None:
    outbox = Outbox()
    worker = Worker(redis, tenant, outbox)
    outcomes = [await worker.run(f"job-{n}") for n in range(11)]
    assert all(isinstance(outcome, Done) for outcome in outcomes[:10])
    assert isinstance(outcomes[10], Reject)
    assert "limit" in outcomes[10].reason
    assert len(outbox.sent) == 10
    assert isinstance(await worker.run("job-of-another", signin("user-2")), Done)


async def test_tenants_do_not_share_a_users_limit(redis: Redis, unique: Callable[[str], str]) -> None:
    for tenant in (unique("a"), unique("b")):
        outcomes = [await Worker(redis, tenant, Outbox()).run(f"job-{n}") for n in range(10)]
        assert all(isinstance(outcome, Done) for outcome in outcomes)


async def test_attempts_that_fail_do_not_use_the_limit_up(redis: Redis, tenant: str) -> None:
    outbox = Outbox(*(OSError("away") for _ in range(4)))
    worker = Worker(redis, tenant, outbox)
    for _ in range(4):
        with pytest.raises(OSError, match="away"):
            await worker.run("job-0")
    assert all([isinstance(await worker.run(f"job-{n}"), Done) for n in range(10)])


async def test_the_doors_reservation_and_the_workers_count_are_one(redis: Redis, tenant: str) -> None:
    door = window(redis, OPTIONS)
    for n in range(10):
        member = member_of(tenant, f"{tenant}-{n}")
        await door.reserve(subject_of(tenant, signin()), member, token="door", seconds=60)
    worker = Worker(redis, tenant, Outbox())
    assert all([isinstance(await worker.run(f"{tenant}-{n}"), Done) for n in range(10)])
    assert isinstance(await worker.run("published-past-the-door"), Reject)


async def test_without_redis_the_job_waits_and_no_mail_goes_out(tenant: str) -> None:
    away = connect(f"redis://127.0.0.1:{ports.any_free()}", timeout=0.2)
    outbox = Outbox()
    with pytest.raises(TransientError):
        await Worker(away, tenant, outbox).run("job-1")
    assert outbox.sent == []
    await away.aclose()


async def test_redis_lost_after_sending_does_not_send_again(redis_url: str, tenant: str) -> None:
    client = connect(redis_url, timeout=0.2)

    class Cutting(Outbox):
        async def send(self, email: Email) -> None:
            await super().send(email)
            client.connection_pool.connection_kwargs["port"] = ports.any_free()
            await client.connection_pool.disconnect()

    outbox = Cutting()
    assert isinstance(await Worker(client, tenant, outbox).run("job-1"), Done)
    assert len(outbox.sent) == 1
    await client.aclose()

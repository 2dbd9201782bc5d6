from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from streams.adapters.mail import SmtpMail
from streams.dev import ports
from streams.ports import Email, MailRefusedError
from tests.self_signed import SelfSigned, self_signed
from tests.smtp_server import PASSWORD, USER, Inbox, parts, smtp_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EMAIL = Email(
    to="bat@example.com",
    subject="Таны бүртгэлд шинээр нэвтэрлээ",
    text="Сайн байна уу, Өнөр!\n.\nА\n",
    html="<p>Сайн байна уу, Өнөр!</p>\n",
    message_id="<11111111-1111@keylane>",
)


def mail_to(port: int, **options: Any) -> SmtpMail:
    return SmtpMail(host="127.0.0.1", port=port, sender="Дэлгүүр <no-reply@shop.example>", **options)


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    async with smtp_server() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> SelfSigned:
    return self_signed(tmp_path_factory.mktemp("tls"))


def trusting(certificate: SelfSigned) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.cafile))


async def test_both_bodies_arrive_as_they_were_written(inbox: Inbox) -> None:
    await mail_to(inbox.port).send(EMAIL)
    (message,) = inbox.messages
    bodies = {kind: text.replace("\r\n", "\n") for kind, text in parts(message).items()}
    assert bodies == {"text/plain": EMAIL.text, "text/html": EMAIL.html}
    assert message["Subject"] == EMAIL.subject
    assert message["Message-ID"] == EMAIL.message_id
    assert message["To"] == "bat@example.com"
    assert inbox.recipients == ["bat@example.com"]


@pytest.mark.parametrize(("command", "answer"), [("RCPT", "550 no such user bat@example.com"), ("DATA", "554 spam")])
async def test_a_recipient_or_content_refused_for_good_is_final(inbox: Inbox, command: str, answer: str) -> None:
    inbox.refuse(command, answer)
    with pytest.raises(MailRefusedError, match=answer[:3]) as refusal:
        await mail_to(inbox.port).send(EMAIL)
    assert "bat@" not in str(refusal.value)


@pytest.mark.parametrize(
    ("command", "answer"), [("RCPT", "450 mailbox busy"), ("DATA", "451 try later"), ("MAIL", "550 relay denied")]
)
async def test_what_may_pass_is_tried_again_and_then_arrives(inbox: Inbox, command: str, answer: str) -> None:
    inbox.refuse(command, answer)
    with pytest.raises(OSError, match=answer[:3]):
        await mail_to(inbox.port).send(EMAIL)
    await mail_to(inbox.port).send(EMAIL)
    assert len(inbox.messages) == 1


async def test_a_server_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await mail_to(ports.any_free()).send(EMAIL)


async def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with asyncio.timeout(5):
        with pytest.raises(OSError, match="Timed out"):
            await mail_to(port, timeout=0.2).send(EMAIL)
    silent.close()


async def test_starttls_and_login_protect_the_way(certificate: SelfSigned) -> None:
    async with smtp_server(starttls=certificate.server, auth=True) as inbox:
        mail = mail_to(inbox.port, tls="starttls", username=USER, password=PASSWORD, tls_context=trusting(certificate))
        await mail.send(EMAIL)
    assert inbox.secure == [True]


async def test_tls_from_the_first_byte(certificate: SelfSigned) -> None:
    async with smtp_server(tls=certificate.server) as inbox:
        await mail_to(inbox.port, tls="tls", tls_context=trusting(certificate)).send(EMAIL)
    assert inbox.secure == [True]


async def test_a_wrong_password_is_for_the_operator_to_repair_not_the_end_of_the_mail(certificate: SelfSigned) -> None:
    async with smtp_server(starttls=certificate.server, auth=True) as inbox:
        mail = mail_to(inbox.port, tls="starttls", username=USER, password="wrong", tls_context=trusting(certificate))
        with pytest.raises(OSError, match="535"):
            await mail.send(EMAIL)
    assert inbox.messages == []


async def test_a_certificate_nobody_vouches_for_is_not_talked_to(certificate: SelfSigned) -> None:
    async with smtp_server(tls=certificate.server) as inbox:
        with pytest.raises(OSError, match=r"(?i)certificate"):
            await mail_to(inbox.port, tls="tls").send(EMAIL)
    assert inbox.messages == []


async def test_starttls_is_insisted_on(inbox: Inbox) -> None:
    with pytest.raises(OSError, match=r"(?i)starttls"):
        await mail_to(inbox.port, tls="starttls").send(EMAIL)
    assert inbox.messages == []

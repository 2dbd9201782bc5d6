"""A real SMTP server (aiosmtpd) in the test's own loop, that can be told to refuse."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, AuthResult

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from email.message import Message

    from aiosmtpd.smtp import Envelope, Session

USER, PASSWORD = "mailer", "right"


class Inbox:
    """What arrived; ``answers`` maps ``MAIL``, ``RCPT`` and ``DATA`` to replies given instead, each once."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.recipients: list[str] = []
        self.answers: dict[str, list[str]] = {}
        self.secure: list[bool] = []
        self.port = 0

    def refuse(self, command: str, *answers: str) -> None:
        self.answers.setdefault(command, []).extend(answers)

    async def handle_MAIL(  # noqa: N802 - the name is aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, mail_options: list[str]
    ) -> str:
        del server, session
        envelope.mail_from, envelope.mail_options = address, mail_options
        return self._answer("MAIL")

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        del server, session, rcpt_options
        answer = self._answer("RCPT")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - as above
        answer = self._answer("DATA")
        if answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            self.messages.append(message_from_bytes(content, policy=default))
            self.recipients.extend(envelope.rcpt_tos)
            self.secure.append(session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None)
        return answer

    def _answer(self, command: str) -> str:
        waiting = self.answers.get(command)
        return waiting.pop(0) if waiting else "250 OK"


def parts(message: Message) -> dict[str, str]:
    """Content type -> decoded text of a message's bodies."""
    return {part.get_content_type(): part.get_content() for part in message.walk() if not part.is_multipart()}  # type: ignore[attr-defined]  # EmailMessage


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False)


@asynccontextmanager
async def smtp_server(
    *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, auth: bool = False
) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"authenticator": _authenticate, "auth_required": True} if auth else {}

    def connection() -> SMTP:
        return SMTP(
            inbox,
            hostname="localhost",
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_require_tls=starttls is not None,
            loop=loop,
            **options,
        )

    server = await loop.create_server(connection, "127.0.0.1", 0, ssl=tls)
    inbox.port = server.sockets[0].getsockname()[1]
    try:
        yield inbox
    finally:
        server.close()
        await server.wait_closed()

"""A mail transport whose e-mails are steps of the trace that they are sent in; nothing of an e-mail is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.ports import Email, Mail, Tracing


class TracedMail:
    """The ``Mail`` port; ``transport`` is the name of the one behind it."""

    def __init__(self, mail: Mail, transport: str, tracing: Tracing) -> None:
        self._mail = mail
        self._transport = transport
        self._tracing = tracing

    async def send(self, email: Email) -> None:
        """See ``streams.ports.Mail``."""
        span = self._tracing.start("send e-mail", "client")
        span.put("keylane.mail.transport", self._transport)
        with span.current():
            await self._mail.send(email)

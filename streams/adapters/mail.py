"""E-mail transports: the log (default) and SMTP.

Invariant: a header field with a line break or control character is refused, not cleaned; no full address reaches a log.
"""

from __future__ import annotations

import ssl
import time
import unicodedata
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import formatdate, parseaddr
from typing import TYPE_CHECKING, Literal

import aiosmtplib
import structlog

from streams.ports import MailRefusedError

if TYPE_CHECKING:
    from streams.metrics import Metrics
    from streams.ports import Email, Mail
    from streams.settings import Settings

_LOG = structlog.get_logger(__name__)
_PERMANENT = 500  # SMTP replies from here on are final
_UNSAFE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, line and paragraph separators

Tls = Literal["none", "starttls", "tls"]


class MailDelayedError(OSError):
    """The server answered, but would not take the e-mail now."""


def transport(settings: Settings) -> Mail:
    """The transport that the settings name."""
    if settings.mail_transport == "log":
        return LogMail()
    return SmtpMail(
        host=settings.smtp_host,
        port=settings.smtp_port,
        sender=settings.mail_from,
        tls=settings.smtp_tls,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else None,
        tls_context=ssl.create_default_context(cafile=settings.smtp_ssl_cafile),
    )


def masked(address: str) -> str:
    """An address as logs may show it: ``b***@example.com``."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


class MeteredMail:
    """Counts and times what another transport sends.

    Args:
        name: The transport's name in the metrics.
    """

    def __init__(self, mail: Mail, name: str, metrics: Metrics) -> None:
        self._mail = mail
        self._name = name
        self._metrics = metrics

    async def send(self, email: Email) -> None:
        """As the other transport does."""
        started, outcome = time.perf_counter(), "failed"
        try:
            await self._mail.send(email)
            outcome = "sent"
        except MailRefusedError:
            outcome = "refused"
            raise
        finally:
            self._metrics.inc("keylane_emails_total", transport=self._name, outcome=outcome)
            seconds = time.perf_counter() - started
            self._metrics.observe("keylane_email_send_duration_seconds", seconds, transport=self._name)


class LogMail:
    """Writes a line per e-mail to the log, without its bodies."""

    async def send(self, email: Email) -> None:
        """Log the e-mail.

        Raises:
            MailRefusedError: A header field holds a control character.
        """
        _refuse_injection(email)
        _LOG.info("mail logged", to=masked(email.to), subject=email.subject, message_id=email.message_id)


class SmtpMail:
    """Sends each e-mail over a connection of its own.

    Args:
        sender: The From header, for example ``Shop <no-reply@shop.example>``.
        tls: ``starttls`` insists on the upgrade; ``tls`` speaks TLS from the first byte.
        timeout: Seconds for connecting and for each answer.
        tls_context: What to trust; by default the system's authorities.

    Raises:
        ValueError: The sender holds no address.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        sender: str,
        tls: Tls = "none",
        username: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._sender = sender
        self._envelope_sender = _address_of(sender)
        self._tls = tls
        self._username = username
        self._password = password
        self._timeout = timeout
        self._tls_context = tls_context

    async def send(self, email: Email) -> None:
        """Hand the e-mail to the server.

        Raises:
            MailRefusedError: A header field is unsafe, or the server refused the recipient or the content for good.
            OSError: The server did not answer or asked to try later.
        """
        message = compose(email, self._sender)
        try:
            await self._submit(message, email.to)
        except aiosmtplib.SMTPException as error:
            _refuse_final(error)
            raise MailDelayedError(f"{self._host}:{self._port}: {_said(error)}") from error
        except ValueError as error:  # an address that SMTP cannot carry
            raise MailRefusedError(f"not a mail address: {masked(email.to)}") from error
        _LOG.info("mail sent", to=masked(email.to), message_id=email.message_id)

    async def _submit(self, message: EmailMessage, to: str) -> None:
        await aiosmtplib.send(
            message,
            sender=self._envelope_sender,
            recipients=[to],
            hostname=self._host,
            port=self._port,
            use_tls=self._tls == "tls",
            start_tls=self._tls == "starttls",
            tls_context=self._tls_context if self._tls != "none" else None,
            username=self._username,
            password=self._password,
            timeout=self._timeout,
        )


def compose(email: Email, sender: str) -> EmailMessage:
    """The MIME message: text first, HTML as the better alternative, both UTF-8.

    Raises:
        MailRefusedError: A header field holds a control character, or the recipient is no address.
    """
    _refuse_injection(email)
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = sender
    message["To"] = _mailbox(email.to)
    message["Subject"] = email.subject
    message["Message-ID"] = email.message_id
    message["Date"] = formatdate(usegmt=True)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    return message


def _address_of(sender: str) -> str:
    address = parseaddr(sender)[1]
    if not address.rpartition("@")[0]:
        raise ValueError(f"KEYLANE_MAIL_FROM must hold an e-mail address, got {sender!r}")
    return address


def _mailbox(address: str) -> Address:
    try:
        return Address(addr_spec=address)
    except (MessageError, ValueError, IndexError) as error:  # the parser of the standard library raises all three
        raise MailRefusedError(f"not a mail address: {masked(address)}") from error


def _refuse_injection(email: Email) -> None:
    for name in ("to", "subject", "message_id"):
        if any(unicodedata.category(character) in _UNSAFE for character in getattr(email, name)):
            raise MailRefusedError(f"the e-mail's {name} holds a line break or control character")


def _refuse_final(error: aiosmtplib.SMTPException) -> None:
    # A refused sender or login is the operator's to repair, so only what is about this e-mail is final.
    refusals = error.recipients if isinstance(error, aiosmtplib.SMTPRecipientsRefused) else [error]
    about_it = (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError)
    if all(isinstance(refusal, about_it) and refusal.code >= _PERMANENT for refusal in refusals):
        raise MailRefusedError(f"refused by the mail server: {_said(error)}") from error


def _said(error: aiosmtplib.SMTPException) -> str:
    # Replies may repeat the address: only codes are kept.
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return "recipient: " + ", ".join(str(refusal.code) for refusal in error.recipients)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{type(error).__name__}: {error.code}"
    return f"{type(error).__name__}: {error.message}"

"""Sends the e-mail of a record once: locked while it is sent, marked by the record's id afterwards.

Invariant: a record whose mark is set sends nothing. A crash, or the loss of Redis, between the server's answer and the
mark sends the e-mail a second time, under the same Message-ID: of the two errors, an alarm too many is the lesser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import structlog

from streams.adapters.redis import Once, RedisAwayError
from streams.job import Done, Reject
from streams.ports import Email, MailRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from consumers.letters import Letter
    from streams.adapters.redis import Run
    from streams.job import Outcome
    from streams.ports import Context

_LOG = structlog.get_logger(__name__)

TIMEOUT = 15.0  # seconds a run may take
_LOCK = TIMEOUT + 5
_MARK = 48 * 3600


async def nobody_refused() -> None:
    """Let every e-mail pass."""


async def send_once(
    ctx: Context, name: str, to: str, letter: Letter, *, admit: Callable[[], Awaitable[Reject | None]] = nobody_refused
) -> Outcome:
    """Send ``letter`` unless that was done before for this record.

    Args:
        ctx: Of the record.
        name: Of the work; marks are per name and id.
        to: The recipient's address.
        letter: What to send.
        admit: Asked right before sending; a ``Reject`` from it is the outcome.

    Raises:
        TransientError: Redis is away, or another worker is sending this very e-mail.
        OSError: The mail server did not take the e-mail now.
    """
    once = Once(ctx.services.redis, name=name, lock_seconds=_LOCK, mark_seconds=_MARK)
    async with once.run(f"{ctx.tenant}/{ctx.id}") as run:
        if run is None:
            return Done({"mail": "was sent before"})
        return await admit() or await _send(ctx, run, _email(ctx, name, to, letter))


async def _send(ctx: Context, run: Run, email: Email) -> Outcome:
    try:
        await ctx.services.mail.send(email)
    except MailRefusedError as error:
        return Reject(str(error))
    try:
        await run.finish()
    except RedisAwayError as error:
        # The e-mail is out: running again would send another one.
        _LOG.warning("mail sent but not marked", id=ctx.id, error=str(error))
    return Done({"mail": "sent", "message_id": email.message_id})


def _email(ctx: Context, name: str, to: str, letter: Letter) -> Email:
    unique = uuid5(NAMESPACE_URL, f"keylane:{name}:{ctx.tenant}/{ctx.id}")
    return Email(to=to, subject=letter.subject, text=letter.text, html=letter.html, message_id=f"<{unique}@keylane>")

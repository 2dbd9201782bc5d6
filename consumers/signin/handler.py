"""Sends the sign-in e-mail, at most ``signin_mails_per_hour`` to one user within any hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.letters import Letters
from consumers.mailing import send_once
from consumers.signin.browser import browser_of
from consumers.signin.limit import member_of, subject_of, window
from streams.adapters.redis import Verdict
from streams.job import Reject

if TYPE_CHECKING:
    from consumers.letters import Letter
    from schemas.notification_signin.model import Signin
    from streams.job import Outcome
    from streams.ports import Context

_LETTERS = Letters(__file__)


async def handle(signin: Signin, ctx: Context) -> Outcome:
    """Send the e-mail once per job id.

    Raises:
        TransientError: Redis is away, or another worker runs this job.
        OSError: The mail server did not take the e-mail now.
    """

    async def admit() -> Reject | None:
        limit = window(ctx.services.redis, ctx.services.options)
        admission = await limit.take(subject_of(ctx.tenant, signin), member_of(ctx.tenant, ctx.id))
        return Reject("over the limit of sign-in e-mails per hour") if admission.verdict is Verdict.FULL else None

    return await send_once(ctx, "signin", signin.email, letter(signin), admit=admit)


def letter(signin: Signin) -> Letter:
    """The e-mail in the user's language."""
    return _LETTERS.render(locale=signin.locale, signin=signin, browser=browser_of(signin.user_agent))

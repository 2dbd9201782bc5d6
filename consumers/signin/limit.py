"""How many sign-in e-mails one user may get, counted at the door and again where they are sent.

Both count a job under its id, so a job counts once however often it is tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.adapters.redis import SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from schemas.notification_signin.model import Signin

HOUR = 3600.0


def window(redis: Redis, options: Mapping[str, Any]) -> SlidingWindow:
    """The limiter of ``signin_mails_per_hour``."""
    return SlidingWindow(redis, name="signin", limit=options["signin_mails_per_hour"], seconds=HOUR)


def subject_of(tenant: str, signin: Signin) -> str:
    """Whose e-mails are counted together."""
    return f"{tenant}/{signin.user_id}"


def member_of(tenant: str, job_id: str) -> str:
    """What is counted: job ids are each tenant's own."""
    return f"{tenant}/{job_id}"

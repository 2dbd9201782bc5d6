"""``notification.signin``: the e-mail that tells a user about a sign-in to the account."""

from __future__ import annotations

from consumers.mailing import TIMEOUT
from consumers.signin.handler import handle
from consumers.signin.routes import ROUTES
from schemas.notification_signin.model import CONTRACT
from streams.core.retry import RetryPolicy
from streams.job import Job

__all__ = ["JOB", "ROUTES"]

JOB = Job(
    contract=CONTRACT,
    queue="emails",
    key=lambda signin: signin.user_id,
    handler=handle,
    retry=RetryPolicy(attempts=5),
    timeout=TIMEOUT,
)

"""``notification.signin``: tell a user by e-mail that somebody signed in to the account."""

from __future__ import annotations

from schemas.contract import load
from schemas.fields import Email, Instant, Line, Locale, PayloadModel, Text


class Signin(PayloadModel):
    """A sign-in as the site's sign-in callback saw it.

    Attributes:
        provider: How the user signed in, for example ``google``.
        timestamp: When the sign-in happened.
        locale: The language of the e-mail.
    """

    user_id: Line
    email: Email
    name: Line
    provider: Line
    ip_address: Line
    user_agent: Text
    timestamp: Instant
    locale: Locale = "mn"


CONTRACT = load(__file__, name="notification.signin", kind="job", model=Signin)

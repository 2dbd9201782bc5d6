"""``reservation-notifications``: tells the customer how a reservation went."""

from __future__ import annotations

from consumers.mailing import TIMEOUT
from consumers.reservation_notifications.handler import LETTER_NAMES, handle
from streams.core.retry import RetryPolicy
from streams.job import Subscription

SUBSCRIPTION = Subscription(
    name="reservation-notifications",
    contracts=tuple(LETTER_NAMES),
    handler=handle,
    retry=RetryPolicy(attempts=4),
    timeout=TIMEOUT,
)

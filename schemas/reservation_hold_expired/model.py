"""``reservation.hold_expired``: a hold ended without a confirmation."""

from __future__ import annotations

from schemas.contract import load
from schemas.fields import Instant
from schemas.reservation_fields import ReservationFields


class HoldExpired(ReservationFields):
    """A hold ended without a confirmation.

    Attributes:
        expires_at: When the hold ended.
    """

    expires_at: Instant


CONTRACT = load(__file__, name="reservation.hold_expired", kind="event", model=HoldExpired)

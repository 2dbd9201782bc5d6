"""``reservation.held``: a resource is held for a customer until the hold expires."""

from __future__ import annotations

from schemas.contract import load
from schemas.fields import Instant
from schemas.reservation_fields import ReservationFields


class Held(ReservationFields):
    """A resource is held for a customer until the hold expires.

    Attributes:
        expires_at: When the hold ends by itself.
    """

    expires_at: Instant


CONTRACT = load(__file__, name="reservation.held", kind="event", model=Held)

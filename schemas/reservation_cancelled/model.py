"""``reservation.cancelled``: a reservation is cancelled."""

from __future__ import annotations

from schemas.contract import load
from schemas.fields import Text
from schemas.reservation_fields import ReservationFields


class Cancelled(ReservationFields):
    """A reservation is cancelled.

    Attributes:
        reason: Why, if it is known.
    """

    reason: Text | None = None


CONTRACT = load(__file__, name="reservation.cancelled", kind="event", model=Cancelled)

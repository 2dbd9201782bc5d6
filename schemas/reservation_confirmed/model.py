"""``reservation.confirmed``: a reservation is confirmed."""

from __future__ import annotations

from schemas.contract import load
from schemas.reservation_fields import ReservationFields


class Confirmed(ReservationFields):
    """A reservation is confirmed."""


CONTRACT = load(__file__, name="reservation.confirmed", kind="event", model=Confirmed)

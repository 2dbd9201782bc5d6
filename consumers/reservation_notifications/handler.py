"""Sends the customer one e-mail per event: reservation confirmed, cancelled, or its hold expired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.letters import Letters
from consumers.mailing import send_once
from schemas.reservation_cancelled.model import CONTRACT as CANCELLED
from schemas.reservation_confirmed.model import CONTRACT as CONFIRMED
from schemas.reservation_hold_expired.model import CONTRACT as HOLD_EXPIRED

if TYPE_CHECKING:
    from consumers.letters import Letter
    from schemas.reservation_fields import ReservationFields
    from streams.job import Outcome
    from streams.ports import Context

LETTER_NAMES = {CONFIRMED: "confirmed", CANCELLED: "cancelled", HOLD_EXPIRED: "hold_expired"}
_NAME_BY_MODEL = {contract.model: name for contract, name in LETTER_NAMES.items()}
_LETTERS = Letters(__file__)


async def handle(reservation: ReservationFields, ctx: Context) -> Outcome:
    """Send the e-mail once per event id.

    Raises:
        TransientError: Redis is away, or another worker handles this event.
        OSError: The mail server did not take the e-mail now.
    """
    return await send_once(ctx, "reservation", reservation.customer_email, letter(reservation))


def letter(reservation: ReservationFields) -> Letter:
    """The e-mail about this event."""
    return _LETTERS.render(_NAME_BY_MODEL[type(reservation)], reservation=reservation)

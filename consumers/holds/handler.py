"""Keeps the table of holds in step with the reservation events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.holds.store import Holds
from schemas.reservation_cancelled.model import CONTRACT as CANCELLED
from schemas.reservation_confirmed.model import CONTRACT as CONFIRMED
from schemas.reservation_held.model import Held
from schemas.reservation_hold_expired.model import CONTRACT as HOLD_EXPIRED
from streams.job import Done, Reject

if TYPE_CHECKING:
    from schemas.reservation_fields import ReservationFields
    from streams.job import Outcome
    from streams.ports import Context

GROUP = "hold-sweeper"
TIERS = (2.0, 30.0, 300.0)

ENDINGS = {CONFIRMED: "settled", CANCELLED: "settled", HOLD_EXPIRED: "expired"}
_ENDING_BY_MODEL = {contract.model: state for contract, state in ENDINGS.items()}


async def handle(reservation: ReservationFields, ctx: Context) -> Outcome:
    """Note the hold or its end.

    Raises:
        TransientError: PostgreSQL is away.
    """
    if not ctx.tenant or ctx.key is None:
        return Reject("a reservation event needs the record key <tenant>/<entity>")
    entity = ctx.key.partition("/")[2]
    holds = Holds(ctx.services.sql)
    if isinstance(reservation, Held):
        await holds.remember(ctx.tenant, entity, reservation)
    else:
        await holds.end(ctx.tenant, entity, reservation.reservation_id, _ENDING_BY_MODEL[type(reservation)])
    return Done()

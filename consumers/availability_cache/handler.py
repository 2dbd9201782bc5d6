"""Applies each reservation event to the counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.availability_cache.cache import Availability, Rank
from schemas.reservation_cancelled.model import CONTRACT as CANCELLED
from schemas.reservation_confirmed.model import CONTRACT as CONFIRMED
from schemas.reservation_held.model import CONTRACT as HELD
from schemas.reservation_hold_expired.model import CONTRACT as HOLD_EXPIRED
from streams.job import Done

if TYPE_CHECKING:
    from schemas.reservation_fields import ReservationFields
    from streams.job import Outcome
    from streams.ports import Context

RANKS = {HELD: Rank.HELD, HOLD_EXPIRED: Rank.EXPIRED, CONFIRMED: Rank.CONFIRMED, CANCELLED: Rank.CANCELLED}
_RANK_BY_MODEL = {contract.model: rank for contract, rank in RANKS.items()}


async def handle(reservation: ReservationFields, ctx: Context) -> Outcome:
    """Count the reservation.

    Raises:
        TransientError: Redis is away.
    """
    changed = await Availability(ctx.services.redis).apply(ctx.tenant, reservation, _RANK_BY_MODEL[type(reservation)])
    return Done({"changed": changed})

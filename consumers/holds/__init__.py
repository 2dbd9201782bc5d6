"""``hold-sweeper``: remembers holds, and every 30 s emits ``reservation.hold_expired`` for those that ran out."""

from __future__ import annotations

from consumers.holds.handler import ENDINGS, GROUP, TIERS, handle
from consumers.holds.sweeper import sweep
from schemas.reservation_held.model import CONTRACT as HELD
from streams.core.retry import RetryPolicy
from streams.job import Periodic, Subscription

SUBSCRIPTION = Subscription(
    name=GROUP,
    contracts=(HELD, *ENDINGS),
    handler=handle,
    tiers=TIERS,
    retry=RetryPolicy(attempts=4),
    timeout=10.0,
    concurrency=16,  # each run holds one of the pool's connections
)

PERIODIC = Periodic(name=GROUP, every=30.0, run=sweep)

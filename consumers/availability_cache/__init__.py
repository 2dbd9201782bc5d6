"""``availability-cache``: keeps how much of each resource is held and confirmed ready in Redis."""

from __future__ import annotations

from consumers.availability_cache.handler import RANKS, handle
from streams.core.retry import RetryPolicy
from streams.job import Subscription

SUBSCRIPTION = Subscription(
    name="availability-cache",
    contracts=tuple(RANKS),
    handler=handle,
    retry=RetryPolicy(attempts=4),
    timeout=10.0,
)

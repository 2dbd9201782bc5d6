"""The counters in Redis: units held and confirmed per resource, from the state of each reservation.

Keys, per tenant and resource:

- ``keylane:availability:<tenant>/<resource>``: hash with the counters ``held`` and ``confirmed``;
- ``keylane:availability-reservations:<tenant>/<resource>``: hash, reservation id -> ``<rank>:<quantity>``;
- ``keylane:availability-ends:<tenant>/<resource>``: sorted set, reservation id -> end in milliseconds.

Invariant: the counters are the sum over the second hash. A reservation only ever rises in rank, so an event that comes
again, or late, changes nothing. What ended more than ``KEPT_FOR`` ago leaves all three, so they stay bounded.
Lost keys are rebuilt by reading the events again from the start (reset the offsets of the consumer group).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from streams.adapters.redis import transient

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from schemas.reservation_fields import ReservationFields

KEPT_FOR = 7 * 86_400  # seconds

# A confirmation beats an expiry that crossed it: the reservation's owner decides, the sweeper only watches a clock.
_APPLY = """
local counters, reservations, ends = KEYS[1], KEYS[2], KEYS[3]
local id, rank, quantity, ending = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local names = {'held', false, 'confirmed', false}
local time = redis.call('TIME')
local oldest = (time[1] - ARGV[5]) * 1000

local function count(rank, quantity)
  if names[rank] then redis.call('HINCRBY', counters, names[rank], quantity) end
end

local function forget(id)
  local state = redis.call('HGET', reservations, id)
  if not state then return 0 end
  local rank, quantity = string.match(state, '(%d+):(%d+)')
  count(tonumber(rank), -tonumber(quantity))
  return tonumber(rank)
end

for _, old in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', oldest, 'LIMIT', 0, 100)) do
  forget(old)
  redis.call('HDEL', reservations, old)
  redis.call('ZREM', ends, old)
end
if ending <= oldest then return 0 end
local state = redis.call('HGET', reservations, id)
if state and tonumber(string.match(state, '%d+')) >= rank then return 0 end
forget(id)
count(rank, quantity)
redis.call('HSET', reservations, id, rank .. ':' .. quantity)
redis.call('ZADD', ends, ending, id)
return 1
"""


class Rank(IntEnum):
    """What became of a reservation; a higher rank is never undone by a lower one."""

    HELD = 1
    EXPIRED = 2
    CONFIRMED = 3
    CANCELLED = 4


class Taken(NamedTuple):
    """Units of a resource that are not free."""

    held: int
    confirmed: int


class Availability:
    """The counters of all resources."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._apply = redis.register_script(_APPLY)

    async def apply(self, tenant: str, reservation: ReservationFields, rank: Rank) -> bool:
        """Bring a reservation to ``rank``; False where that changed nothing.

        Raises:
            RedisAwayError: Redis did not answer.
        """
        ending = round(reservation.ends_at.timestamp() * 1000)
        args: list[str | int] = [reservation.reservation_id, int(rank), reservation.quantity, ending, KEPT_FOR]
        with transient():
            return bool(await self._apply(keys=_keys(tenant, reservation.resource_id), args=args))

    async def taken(self, tenant: str, resource: str) -> Taken:
        """What is held and confirmed now, as far as the events have been read.

        Raises:
            RedisAwayError: Redis did not answer.
        """
        with transient():
            held, confirmed = await self._redis.hmget(_keys(tenant, resource)[0], ["held", "confirmed"])
        return Taken(int(held or 0), int(confirmed or 0))


def _keys(tenant: str, resource: str) -> list[str]:
    kinds = ("availability", "availability-reservations", "availability-ends")
    return [f"keylane:{kind}:{tenant}/{resource}" for kind in kinds]

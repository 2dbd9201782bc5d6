"""Requests with an Idempotency-Key in Redis: the ``Requests`` port of the gateway, each method one Lua call.

A key's hash holds the request's fingerprint, who carries it out, and in the end its answer. Invariant: of any number of
requests with one key and fingerprint one is ``NEW`` at a time; the mark of a gateway that died ends by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.adapters.redis import transient
from streams.ports import Found, RequestState

if TYPE_CHECKING:
    from redis.asyncio import Redis

_STATISTICS = "keylane:idempotency:statistics"

_BEGIN = """
local known = redis.call('HMGET', KEYS[1], 'fingerprint', 'owner', 'answer')
local state, answer, left = 'new', '', 0
if not known[1] then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'owner', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif known[1] ~= ARGV[1] then
  state = 'reused'
elseif known[3] then
  state, answer = 'replayed', known[3]
elseif known[2] == ARGV[2] then
  return {'new', '', 0}
else
  state, left = 'in-flight', redis.call('PTTL', KEYS[1])
end
redis.call('HINCRBY', KEYS[2], state, 1)
return {state, answer, left}
"""

_FINISH = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'owner', ARGV[2], 'answer', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""

_RELEASE = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[2], 'released', 1)
return redis.call('DEL', KEYS[1])
"""


class RedisRequests:
    """The ``Requests`` port; its errors are ``RedisAwayError``."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._begin = redis.register_script(_BEGIN)
        self._finish = redis.register_script(_FINISH)
        self._release = redis.register_script(_RELEASE)

    async def begin(self, key: str, fingerprint: str, owner: str, seconds: float) -> Found:
        """See the port."""
        with transient():
            state, answer, left = await self._begin(
                keys=[_place(key), _STATISTICS], args=[fingerprint, owner, round(seconds * 1000)]
            )
        return Found(RequestState(state), answer, int(left) / 1000)

    async def finish(self, key: str, fingerprint: str, owner: str, answer: str, seconds: float) -> None:
        """See the port."""
        with transient():
            await self._finish(keys=[_place(key)], args=[fingerprint, owner, answer, round(seconds * 1000)])

    async def release(self, key: str, owner: str) -> None:
        """See the port."""
        with transient():
            await self._release(keys=[_place(key), _STATISTICS], args=[owner])

    async def statistics(self) -> dict[str, int]:
        """See the port."""
        with transient():
            found = await self._redis.hgetall(_STATISTICS)
        return {str(name): int(count) for name, count in found.items()}


def _place(key: str) -> str:
    return f"keylane:request:{key}"

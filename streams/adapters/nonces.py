"""Nonces of signed requests in Redis: each is taken once.

Invariant: whoever takes a nonce first, keeps it, also when its client repeats the step because an answer was lost.
Without Redis no nonce is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from streams.adapters.redis import transient

if TYPE_CHECKING:
    from redis.asyncio import Redis

_TAKE = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class RedisNonces:
    """The ``Nonces`` port."""

    def __init__(self, redis: Redis) -> None:
        self._take = redis.register_script(_TAKE)

    async def take(self, key: str, nonce: str, seconds: float) -> bool:
        """See ``Nonces.take``."""
        with transient():
            taken = await self._take(keys=[f"keylane:nonce:{key}:{nonce}"], args=[uuid4().hex, round(seconds * 1000)])
        return bool(taken)

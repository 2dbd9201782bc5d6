"""Tickets in Redis, each good for one use within ``SECONDS``.

Invariant: Redis never holds a ticket, only what it hashes to, and gives its holder out once.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from streams.adapters.redis import transient

if TYPE_CHECKING:
    from redis.asyncio import Redis

SECONDS = 30
_RANDOM = 32  # bytes


class RedisTickets:
    """The ``Tickets`` port."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def issue(self, holder: str) -> str:
        """A ticket for the holder.

        Raises:
            RedisAwayError: Redis did not answer.
        """
        ticket = secrets.token_urlsafe(_RANDOM)
        with transient():
            await self._redis.set(_key(ticket), holder, ex=SECONDS)
        return ticket

    async def take(self, ticket: str) -> str | None:
        """The holder of a ticket, once.

        Raises:
            RedisAwayError: Redis did not answer.
        """
        with transient():
            found = await self._redis.getdel(_key(ticket))
        return None if found is None else str(found)


def _key(ticket: str) -> str:
    return f"keylane:ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"

"""Limits where four processes of a gateway count together."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import ClientSession, TCPConnector
from pydantic import SecretStr

from streams.adapters import redis as adapter
from streams.adapters.vault import new_master
from tests.integration.test_gateway_processes import Gateway, gateway
from tests.key_maker import stored_key

__all__ = ["gateway"]  # a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from streams.settings import Settings

RATE, BURST, SECONDS = 20, 40, 6.0
PATH = "/api/v1/stream-tickets"
CLIENTS = 16  # of each key: that many ask for more than the rate even where an answer takes half a second
PACE = 0.02  # seconds a client that was refused waits: well below what would fill the bucket


class Load:
    """Asks with one key until the time is over and nothing is left, on the clock that counts.

    What was let in lies between what was free in the ``shortest`` and in the ``longest`` time that the load may have
    lasted: from the answers to the first requests until one was sent that was refused, or from before to after all.
    """

    def __init__(self, url: str, key: str, redis: Redis) -> None:
        self.told: Counter[int] = Counter()
        self._over = 0.0  # when the last request was sent that tells that nothing was left
        self._client = ClientSession(url, headers={"X-API-Key": key}, connector=TCPConnector(limit=0))
        self._redis = redis

    async def run(self) -> None:
        async with self._client:
            await self._open()
            before = await adapter.now(self._redis)
            await asyncio.gather(*(self._ask() for _ in range(CLIENTS)))  # so many that it is not full again at once
            after = await adapter.now(self._redis)
            await asyncio.gather(*(self._keep_asking(after + SECONDS) for _ in range(CLIENTS)))
            self.shortest = self._over - after
            self.longest = await adapter.now(self._redis) - before

    async def _keep_asking(self, until: float) -> None:
        """Ask until a request that was sent after the time was over is refused, whoever sent it."""
        while not self._over:
            sent = await adapter.now(self._redis)
            if await self._ask() == 429:
                if sent > until:
                    self._over = self._over or sent
                await asyncio.sleep(PACE)

    async def _ask(self) -> int:
        async with self._client.post(PATH) as response:
            self.told[response.status] += 1
            return response.status

    async def _open(self) -> None:
        """A connection for each client, before anything is counted."""

        async def get() -> None:
            async with self._client.get("/health/live") as response:
                assert response.status == 200

        await asyncio.gather(*(get() for _ in range(CLIENTS)))


async def test_four_processes_let_in_what_the_rate_says_to_a_hundredth_of_each_key(
    gateway: Gateway, settings: Settings, unique: Callable[[str], str]
) -> None:
    limit = {"name": unique("by-key"), "per": "user", "rate": f"{RATE}/s", "burst": BURST, "routes": [f"POST {PATH}"]}
    master = new_master("tests")
    gateway._environment |= {
        "KEYLANE_GATEWAY_AUTH": "key",
        "KEYLANE_SECRET_KEYS": master,
        "KEYLANE_LIMITS": json.dumps([limit]),
    }
    own = settings.model_copy(update={"secret_keys": SecretStr(master)})
    keys = [(await stored_key(own, "jobs:read")).text for _ in range(2)]
    assert settings.redis_url
    redis = adapter.connect(settings.redis_url)
    async with gateway.running(4):
        loads = [Load(gateway.url, key, redis) for key in keys]
        await asyncio.gather(*(load.run() for load in loads))
    await redis.aclose()

    asked = [line for line in gateway.lines("request") if line["route"] == PATH]
    assert {line["process"] for line in asked} == {0, 1, 2, 3}
    for load in loads:
        assert set(load.told) == {201, 429}
        assert 0.99 * (BURST + RATE * load.shortest) <= load.told[201] <= 1.01 * (BURST + RATE * load.longest)

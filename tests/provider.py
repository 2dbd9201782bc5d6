"""A provider outside the workers: it makes every effect it is asked for, knows each by its key, and repeats none away.

Over HTTP in the test's own process, so that it outlives the workers that are killed.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode
from urllib.request import Request

from aiohttp import ClientSession, web

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Provider:
    """``effects`` in the order they were made; ``told``: what workers said of themselves."""

    def __init__(self, *, checks_tokens: bool = False) -> None:
        self.effects: list[str] = []
        self.refused: list[str] = []
        self.told: list[str] = []
        self.url = ""
        self._checks = checks_tokens
        self._tokens: dict[str, int] = defaultdict(int)

    async def has(self, count: int, *, within: float = 60.0) -> None:
        """Wait for so many different effects."""

        async def enough() -> bool:
            return len(set(self.effects)) >= count

        await eventually(enough, within=within)

    async def has_refused(self, count: int) -> None:
        """Wait until so many effects were refused for their token."""

        async def enough() -> bool:
            return len(self.refused) >= count

        await eventually(enough)

    async def was_told(self, text: str, *, within: float = 60.0) -> None:
        """Wait until a worker says this."""

        async def said() -> bool:
            return text in self.told

        await eventually(said, within=within)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Provider]:
        """Serve on a free port of the loopback."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/effects", self._make),
                web.get("/effects", self._look_up),
                web.post("/told", self._tell),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _make(self, request: web.Request) -> web.Response:
        key, token = request.query["key"], int(request.query["token"])
        if self._checks and token < self._tokens[key]:
            self.refused.append(key)
            return web.Response(status=409)
        self._tokens[key] = max(token, self._tokens[key])
        self.effects.append(key)
        return web.Response(status=201)

    async def _look_up(self, request: web.Request) -> web.Response:
        # Whoever asks under a greater token has taken over: a smaller one must not send any more.
        key = request.query["key"]
        self._tokens[key] = max(int(request.query["token"]), self._tokens[key])
        return web.Response(status=200 if key in self.effects else 404)

    async def _tell(self, request: web.Request) -> web.Response:
        self.told.append(await request.text())
        return web.Response(status=204)


class ProviderClient:
    """What a worker uses."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = ClientSession()

    async def make(self, key: str, token: int) -> int:
        """Make the effect; the status."""
        async with self._session.post(f"{self._url}/effects", params={"key": key, "token": str(token)}) as answer:
            return answer.status

    def request(self, key: str, token: int) -> Request:
        """What :meth:`make` sends, for those who block."""
        return Request(f"{self._url}/effects?{urlencode({'key': key, 'token': token})}", method="POST")  # noqa: S310 - ours

    async def made(self, key: str, token: int) -> bool:
        """Whether the provider knows of it."""
        async with self._session.get(f"{self._url}/effects", params={"key": key, "token": str(token)}) as answer:
            return answer.status == 200

    async def tell(self, text: str) -> None:
        """Say something to the test."""
        async with self._session.post(f"{self._url}/told", data=text) as answer:
            answer.raise_for_status()

    async def close(self) -> None:
        await self._session.close()

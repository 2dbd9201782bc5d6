from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from streams.adapters.jwks import fetched

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEYS = '{"keys": []}'


@pytest.fixture
async def base() -> AsyncIterator[str]:
    never = asyncio.Event()

    async def keys(_: web.Request) -> web.Response:
        return web.Response(text=KEYS)

    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/keys")

    async def long(_: web.Request) -> web.Response:
        return web.Response(text=" " * 101)

    async def slow(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    app = web.Application()
    routes = {"keys": keys, "elsewhere": elsewhere, "long": long, "slow": slow}
    app.add_routes([web.get(f"/{name}", handler) for name, handler in routes.items()])
    async with TestServer(app) as server:
        yield str(server.make_url("/"))
        never.set()


async def test_what_an_issuer_publishes_is_fetched(base: str) -> None:
    assert await fetched(base + "keys", longest=len(KEYS)) == KEYS


@pytest.mark.parametrize("path", ["elsewhere", "long", "slow", "nothing"])
async def test_redirects_long_and_slow_answers_and_errors_are_no_keys(base: str, path: str) -> None:
    with pytest.raises((OSError, ValueError)):
        await fetched(base + path, longest=100, timeout=0.1)

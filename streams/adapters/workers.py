"""Asks running workers, over the port where they show their metrics, what they hold of a key.

Invariant: a worker that does not answer is named, never passed over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PATIENCE = aiohttp.ClientTimeout(total=3.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker said of a key, by group; ``problem`` says why it said nothing."""

    url: str
    groups: Mapping[str, Any]
    problem: str | None = None


async def lane(urls: Sequence[str], key: str) -> list[Answer]:
    """What each worker holds of the key."""
    async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
        return list(await asyncio.gather(*(_ask(session, url, key) for url in urls)))


async def _ask(session: aiohttp.ClientSession, url: str, key: str) -> Answer:
    try:
        async with session.get(f"{url.rstrip('/')}/lanes/{quote(key, safe='')}") as response:
            response.raise_for_status()
            return Answer(url, await response.json())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return Answer(url, {}, f"{type(error).__name__}: {error}".rstrip(": "))

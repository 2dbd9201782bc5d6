"""A real ``keylane worker`` of a run, with what it shows over HTTP.

Invariant: every life has the same port, and a static one the same name.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from streams.dev import ports
from tests.chaos.processes import KEYLANE, Child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_START = 90.0  # seconds
_ANSWER = aiohttp.ClientTimeout(total=5)


class Worker(Child):
    """Worker number ``number`` of the group ``group``."""

    def __init__(self, number: int, group: str, environment: Mapping[str, str], folder: Path) -> None:
        port = ports.any_free()
        self.name = f"worker-{number}"
        self._url = f"http://127.0.0.1:{port}"
        super().__init__(
            [*KEYLANE, "worker", "--group", group],
            {**environment, "KEYLANE_WORKER_PORT": str(port)},
            folder / f"{self.name}.log",
        )

    async def ready(self, within: float = _START) -> None:
        """Wait until it has taken over its partitions."""
        async with asyncio.timeout(within), aiohttp.ClientSession(timeout=_ANSWER) as session:
            while not await self._is_ready(session):
                assert self.alive(), f"{self.name} ended by itself: see {self.log}"
                await asyncio.sleep(0.05)

    async def metrics(self) -> dict[str, float]:
        """Every metric of the worker, summed over its labels."""
        async with aiohttp.ClientSession(timeout=_ANSWER) as session, session.get(f"{self._url}/metrics") as answer:
            text = await answer.text()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self._url}/health/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

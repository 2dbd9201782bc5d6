"""``/health`` and the probes ``live``, ``ready`` and ``startup``, also under ``/api/v1``.

Invariant: a probe answers within ``PATIENCE``, whatever hangs, and asks each dependency at most once per ``FRESH``.
"""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from streams.door import RouteSpec
from streams.gateway.jobs import json_answer
from streams.gateway.views import DependencyView, HealthView, Memory, ProbeView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web

    from streams.door import Door

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PATIENCE = 1.5  # seconds
FRESH = 1.0  # seconds
_PREFIXES = ("", "/api/v1")
_PAGE = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A dependency; ``check`` raises when it is away. ``needed``: without it nothing is accepted."""

    name: str
    check: Callable[[], Awaitable[object]]
    needed: bool = True


class Health:
    """The state of the process and its dependencies.

    Attributes:
        started: Set when the gateway serves.
        stopping: Set when it must get no further requests.
    """

    def __init__(self, checks: Sequence[HealthCheck], version: str) -> None:
        self.started = False
        self.stopping = False
        self._checks = checks
        self._version = version
        self._since = time.monotonic()
        self._found: dict[str, DependencyView] = {}
        self._found_at = -FRESH
        self._lock = asyncio.Lock()

    def specs(self) -> tuple[RouteSpec, ...]:
        """The routes."""
        return tuple(
            RouteSpec(
                method="GET",
                path=prefix + path,
                summary=summary,
                build=partial(_given, handler),
                answer=HealthView if path == "/health" else ProbeView,
                answers_errors=True,
                statuses={200: "Up.", 503: "Down."},
            )
            for prefix in _PREFIXES
            for path, summary, handler in (
                ("/health", "The dependencies and the memory", self.get_health),
                ("/health/live", "Whether the process answers", self.get_live),
                ("/health/ready", "Whether requests should be sent here", self.get_ready),
                ("/health/startup", "Whether the start is over", self.get_startup),
            )
        )

    async def get_health(self, _request: web.Request) -> web.StreamResponse:
        """All there is to say."""
        dependencies = await self._dependencies()
        status = _overall(dependencies)
        view = HealthView(
            status=status,
            version=self._version,
            uptime_seconds=round(time.monotonic() - self._since, 3),
            dependencies=dependencies,
            memory=memory(),
        )
        return json_answer(view, HTTPStatus.SERVICE_UNAVAILABLE if status == "down" else HTTPStatus.OK)

    async def get_live(self, _request: web.Request) -> web.StreamResponse:
        """The event loop turns: that is all."""
        return _probe(up=True)

    async def get_ready(self, _request: web.Request) -> web.StreamResponse:
        """Serving, not stopping, and nothing needed is away."""
        return _probe(
            up=self.started and not self.stopping and _overall(await self._dependencies()) != "down",
        )

    async def get_startup(self, _request: web.Request) -> web.StreamResponse:
        """Serving."""
        return _probe(up=self.started)

    async def _dependencies(self) -> dict[str, DependencyView]:
        async with self._lock:
            if time.monotonic() - self._found_at >= FRESH:
                views = await asyncio.gather(*map(_asked, self._checks))
                self._found = {check.name: view for check, view in zip(self._checks, views, strict=True)}
                self._found_at = time.monotonic()
            return self._found


def memory() -> Memory:
    """What this process uses."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Memory(resident_bytes=resident, peak_bytes=max(peak, resident))


def _given(handler: Handler, _door: Door) -> Handler:
    return handler


async def _asked(check: HealthCheck) -> DependencyView:
    try:
        async with asyncio.timeout(PATIENCE):
            await check.check()
    except Exception as error:  # noqa: BLE001 - whatever a dependency raises, it is down
        # The class only: messages hold addresses.
        return DependencyView(status="down", needed=check.needed, detail=type(error).__name__)
    return DependencyView(status="up", needed=check.needed, detail=None)


def _overall(dependencies: dict[str, DependencyView]) -> Literal["up", "degraded", "down"]:
    down = [view for view in dependencies.values() if view.status == "down"]
    if any(view.needed for view in down):
        return "down"
    return "degraded" if down else "up"


def _probe(*, up: bool) -> web.Response:
    if up:
        return json_answer(ProbeView(status="up"))
    return json_answer(ProbeView(status="down"), HTTPStatus.SERVICE_UNAVAILABLE)

"""``/api/v1/lanes``, ``/queues`` and ``/topics``: where keys, groups and topics stand, as the commands show it.

Invariant: looking changes nothing; few look at once, and figures of groups and topics are at most so old that many who
ask cost as much as one.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from streams.door import ProblemError, RouteSpec
from streams.event import tenant_of
from streams.gateway import body
from streams.gateway.access import CALLER, Scope, check_operator
from streams.gateway.jobs import json_answer
from streams.gateway.lookviews import LaneView, QueueList, TopicList
from streams.gateway.models import Name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

T = TypeVar("T")

FRESH = 5.0  # seconds
_AT_ONCE = 2
_STATUSES = {
    401: "The credentials are missing or not valid.",
    403: "The scope is missing, or the caller belongs to a tenant and asks for figures of all.",
    503: "The broker is away.",
}


class Looks(Protocol):
    """Looks at what there is.

    Its methods raise TransientError where the broker is away, and NothingThereError.
    """

    async def lane(self, key: str, group: str | None) -> LaneView:
        """Where a key stands."""

    async def queues(self) -> QueueList:
        """How far each group is."""

    async def topics(self) -> TopicList:
        """The topics of the deployment."""


class NothingThereError(Exception):
    """There is nothing to look at; the message says what is missing."""


class LaneQuery(BaseModel):
    """``group``: only in this consumer group."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    group: Name | None = None


class LookRoutes:
    """The routes."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._queues = _Fresh(looks.queues)
        self._topics = _Fresh(looks.topics)

    def specs(self) -> tuple[RouteSpec, ...]:
        """The routes."""
        return (
            RouteSpec(
                method="GET",
                path="/api/v1/lanes/{key:.+}",
                summary="Where a key stands, by its whole record key",
                scope=Scope.JOBS_READ,
                build=lambda _: self.lane,
                query=LaneQuery,
                answer=LaneView,
                statuses={
                    200: "Where it stands in each group.",
                    400: "A query parameter is unknown.",
                    404: "There is no such group, or the key is another tenant's.",
                }
                | _STATUSES,
            ),
            RouteSpec(
                method="GET",
                path="/api/v1/queues",
                summary="How far each consumer group is",
                scope=Scope.ADMIN,
                build=lambda _: self.queues,
                answer=QueueList,
                statuses={200: "As `keylane lag` shows it, at most 5 s old."} | _STATUSES,
            ),
            RouteSpec(
                method="GET",
                path="/api/v1/topics",
                summary="The topics of the deployment",
                scope=Scope.ADMIN,
                build=lambda _: self.topics,
                answer=TopicList,
                statuses={200: "Those that exist, at most 5 s old."} | _STATUSES,
            ),
        )

    async def lane(self, request: web.Request) -> web.StreamResponse:
        """A key."""
        query = body.fitted(LaneQuery, dict(request.query))
        key = request.match_info["key"]
        if not request[CALLER].sees(tenant_of(key.encode(errors="replace"))):
            raise ProblemError("not-found", "There is no such key of yours.")
        async with self._room:
            try:
                return json_answer(await self._looks.lane(key, query.group))
            except NothingThereError as error:
                raise ProblemError("not-found", f"{error}.") from None

    async def queues(self, request: web.Request) -> web.StreamResponse:
        """All groups."""
        check_operator(request)
        return json_answer(await self._queues.get())

    async def topics(self, request: web.Request) -> web.StreamResponse:
        """All topics."""
        check_operator(request)
        return json_answer(await self._topics.get())


class _Fresh(Generic[T]):
    """An answer that many ask for, made anew when it is older than ``FRESH`` seconds."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._made: tuple[float, T] | None = None

    async def get(self) -> T:
        async with self._lock:
            if self._made is None or time.monotonic() - self._made[0] > FRESH:
                self._made = (time.monotonic(), await self._make())
            return self._made[1]

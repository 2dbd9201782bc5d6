"""Holds the answer to a job until it has ended: ``?wait=10``, or ``Prefer: wait=10`` and ``respond-async`` (RFC 7240).

Invariant: the statuses are listened to before the job is published, so that no end is missed; whoever waits is told of
the job of its own tenant alone.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from streams.door import ProblemError
from streams.gateway import body
from streams.gateway.idempotency import REPLAYED
from streams.history import merge, row
from streams.job import TransientError
from streams.live.feed import FullError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from streams.door import JobHistory
    from streams.history import JobRow
    from streams.live.feed import Feed
    from streams.live.notice import Interest
    from streams.live.subscription import Subscription

MOST = 60  # seconds
HEADERS = {
    "Prefer": {
        "description": "RFC 7240: wait=N holds the answer until the job has ended, for N seconds; respond-async.",
        "schema": {"type": "string"},
        "example": "wait=10",
    }
}
_PATIENCE = 1.8  # seconds for listening to begin
_LOOK = 0.5  # seconds between looks at the history
_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?', re.IGNORECASE)


class WaitQuery(BaseModel):
    """``wait``: seconds to wait for the end of the job."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    wait: Annotated[int | None, Field(ge=0, le=MOST)] = None


class Wait(NamedTuple):
    """How long a client wants to wait, and which of its preferences that is."""

    seconds: float
    applied: tuple[str, ...] = ()


_NOT = Wait(0)


def asked(request: web.Request) -> Wait:
    """What the request says of waiting; the query goes before the header.

    Raises:
        ProblemError: The query does not fit.
    """
    if not request.query_string and "Prefer" not in request.headers:
        return _NOT
    query = body.fitted(WaitQuery, dict(request.query), "query")
    preferences = [each.partition(";")[0].strip() for each in ",".join(request.headers.getall("Prefer", ())).split(",")]
    applied = ["respond-async"] if "respond-async" in map(str.lower, preferences) else []
    if query.wait is not None:
        return Wait(query.wait, tuple(applied))
    named = next(filter(None, map(_WAIT.fullmatch, preferences)), None)
    if named is None:
        return Wait(0, tuple(applied))
    seconds = min(int(named[1]), MOST)
    return Wait(seconds, (*applied, f"wait={seconds}"))


class Waiting:
    """Waits for the ends of jobs."""

    def __init__(self, feed: Feed, history: JobHistory) -> None:
        self._feed = feed
        self._history = history

    async def answered(
        self,
        wait: Wait,
        interest: Interest,
        submit: Callable[[], Awaitable[web.Response]],
        shown: Callable[[JobRow], web.Response],
    ) -> web.Response:
        """The answer of ``submit``, or the job as ``shown``, if it ends in time.

        Raises:
            ProblemError, TransientError: Statuses cannot be listened to; nothing was submitted.
        """
        if not wait.seconds:
            answer = await submit()
        else:
            async with AsyncExitStack() as stack:
                heard = await self._listening(stack, interest)
                answer = await submit()
                ended = await self._end(heard, wait.seconds, looks=REPLAYED in answer.headers)
                answer = answer if ended is None else _like(shown(ended), answer)
        if wait.applied:
            answer.headers["Preference-Applied"] = ", ".join(wait.applied)
        return answer

    async def _listening(self, stack: AsyncExitStack, interest: Interest) -> Subscription:
        try:
            async with asyncio.timeout(_PATIENCE):
                return await stack.enter_async_context(self._feed.subscribed(interest))
        except TimeoutError:
            raise TransientError("job statuses cannot be listened to") from None
        except FullError:
            detail = "Too many wait and listen here already; send it without wait, or again later."
            raise ProblemError("overloaded", detail, retry_after=1) from None

    async def _end(self, heard: Subscription, seconds: float, *, looks: bool) -> JobRow | None:
        """The job once it has ended; ``looks``: it may have ended before anybody listened, which the history tells."""
        loop = asyncio.get_running_loop()
        until, known = loop.time() + seconds, None
        while heard.dropped is None:
            if looks:
                known = await self._looked(heard.interest, known)
            if known is not None and known.finished_at is not None:
                return known
            left = until - loop.time()
            if left <= 0:
                return None
            for notice in await heard.take(min(left, _LOOK) if looks else left):
                new = row(notice.body)
                known = new if known is None else merge(known, new)
        return None

    async def _looked(self, interest: Interest, known: JobRow | None) -> JobRow | None:
        try:
            found = await self._history.find(interest.job or "", interest.tenant)
        except TransientError:
            return known
        if found is None or found.tenant != interest.tenant:
            return known
        return found if known is None else merge(known, found)


def _like(shown: web.Response, accepted: web.Response) -> web.Response:
    for name in ("Location", REPLAYED):
        if name in accepted.headers:
            shown.headers[name] = accepted.headers[name]
    return shown

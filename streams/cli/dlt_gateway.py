"""Dead letters through a gateway, and replays and discards that it carries out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streams.cli.dlt_desk import Outcome
from streams.client import ApiError, UnreachableError
from streams.deadletters.entry import parse_ref
from streams.deadletters.reading import DeadLetterError
from streams.gateway.intake import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.cli.dlt_desk import Request
    from streams.client import AsyncClient
    from streams.deadletters.entry import Filters
    from streams.gateway.letterviews import LetterDetail, OperationView
    from streams.gateway.views import DeadLetterView

_LOOK = 0.25  # seconds between looks at an operation
_SILENCE = 30.0  # seconds: another process of the gateway may be at work, and would have finished or beaten by then
_MOST = 1_000  # of one page


class GatewayDesk:
    """See ``streams.cli.dlt_desk.Desk``.

    Args:
        silence: Seconds an operation may be ``interrupted`` until it counts as stopped.
    """

    resumable = "the gateway goes on with it alone; should that stop, '{command}' resumes it"

    def __init__(self, client: AsyncClient, *, silence: float = _SILENCE) -> None:
        self._client = client
        self._silence = silence

    async def letters(self, filters: Filters, limit: int) -> list[DeadLetterView]:
        """See ``Desk``."""
        found: list[DeadLetterView] = []
        async for letter in self._client.dead_letters(
            **_chosen(filters), state=",".join(sorted(filters.states)) or None, limit=min(limit, _MOST)
        ):
            found.append(letter)
            if len(found) == limit:
                break
        return found

    async def letter(self, ref: str) -> LetterDetail:
        """See ``Desk``."""
        if parse_ref(ref) is None:
            raise DeadLetterError(f"{ref}: must be <topic>/<partition>/<offset>")
        return await self._client.dead_letter(ref)

    async def plan(self, request: Request, filters: Filters) -> OperationView:
        """See ``Desk``."""
        return await self._asked(request, filters, dry_run=True)

    async def begin(self, request: Request, filters: Filters) -> OperationView:
        """See ``Desk``."""
        return await self._asked(request, filters, dry_run=False)

    async def resume(self, request: Request) -> OperationView:
        """See ``Desk``."""
        return await self._sent(request, {"resume": request.resume, "dry_run": False})

    async def finish(self, operation: OperationView, rate: float, progress: Callable[[int], None]) -> Outcome:
        """See ``Desk``."""
        del rate  # the gateway was told when it began
        found, done, quiet = operation, 0, 0.0
        while found.status != "finished":
            if found.problem is not None or quiet > self._silence:
                raise DeadLetterError(found.problem or "the gateway has stopped working on it")
            await asyncio.sleep(_LOOK)
            found = await self._look(str(operation.id))
            quiet = quiet + _LOOK if found.status == "interrupted" else 0.0
            progress((found.done or done) - done)
            done = found.done or done
        return _outcome(found)

    async def _look(self, operation_id: str) -> OperationView:
        try:
            return await self._client.operation(operation_id)
        except (ApiError, UnreachableError) as error:
            raise DeadLetterError(f"the gateway does not tell how far it is: {error}") from error

    async def _asked(self, request: Request, filters: Filters, *, dry_run: bool) -> OperationView:
        body = {**_chosen(filters), "limit": request.limit, "reason": request.reason, "dry_run": dry_run}
        return await self._sent(request, body | {"states": sorted(filters.states)})

    async def _sent(self, request: Request, body: dict[str, Any]) -> OperationView:
        if request.kind == "discard":
            return await self._client.discard(**body)
        return await self._client.replay(**body, rate=request.rate)


def _chosen(filters: Filters) -> dict[str, Any]:
    """All but the states, as the API names them."""
    names = ("group", "topic", "tenant", "key", "type", "exception", "partition", "first", "last")
    chosen = {name: getattr(filters, name) for name in names}
    times = {"since": filters.since, "until": filters.until}
    return chosen | {name: None if at is None else rfc3339(at) for name, at in times.items()}


def _outcome(found: OperationView) -> Outcome:
    """What the process that carried it out tells; another one of the gateway knows only that it has finished."""
    if found.done is None or found.before is None or found.expired is None:
        return Outcome(None, None, None)
    return Outcome(found.done - found.before - found.expired, found.before, found.expired)

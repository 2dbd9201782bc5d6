"""Dead letters straight from Kafka, and replays and discards carried out by this process."""

from __future__ import annotations

import secrets
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import typer

from schemas.errors import RegistryUnavailableError
from streams.app import tools
from streams.cli.dlt_desk import Outcome
from streams.deadletters.entry import parse_ref
from streams.deadletters.reading import DeadLetterError
from streams.deadletters.story import bytes_shown
from streams.gateway.deadletters import shown
from streams.gateway.letters import detail, payload_shown
from streams.gateway.letterviews import OperationView
from streams.gateway.replaying import planned

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.cli.dlt_desk import Request
    from streams.deadletters.entry import Filters
    from streams.deadletters.ledger import Operation
    from streams.deadletters.operation import Operations
    from streams.gateway.letterviews import LetterDetail
    from streams.gateway.views import DeadLetterView
    from streams.settings import Settings

_ALL = sys.maxsize


class KafkaDesk:
    """See ``streams.cli.dlt_desk.Desk``."""

    resumable = "if it is stopped, '{command}' resumes it"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._opened: Operations | None = None
        self._begun: dict[str, Operation] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def letters(self, filters: Filters, limit: int) -> list[DeadLetterView]:
        """See ``Desk``."""
        letters = tools.dead_letters(self._settings)
        found: list[DeadLetterView] = []
        async for entry in letters.entries(filters, await letters.ledger()):
            found.append(shown(entry))
            if len(found) == limit:
                break
        return found

    async def letter(self, ref: str) -> LetterDetail:
        """See ``Desk``."""
        place = parse_ref(ref)
        if place is None:
            raise DeadLetterError(f"{ref}: must be <topic>/<partition>/<offset>")
        letters = tools.dead_letters(self._settings)
        ledger = await letters.ledger()
        entry = await letters.entry(*place, ledger)
        return detail(entry, ledger.standing(*place), *await self._payload(entry.record.value))

    async def _payload(self, value: bytes | None) -> tuple[Any, str | None]:
        async with tools.codec(self._settings) as codec:
            try:
                return await payload_shown(value, codec)
            except RegistryUnavailableError as error:
                return None, f"{bytes_shown(value)} ({error})"

    async def plan(self, request: Request, filters: Filters) -> OperationView:
        """See ``Desk``."""
        operations = await self._operations()
        return planned(await operations.draft(request.kind, filters, request.limit), _ALL)

    async def begin(self, request: Request, filters: Filters) -> OperationView:
        """See ``Desk``."""
        operations = await self._operations()
        draft = await operations.draft(request.kind, filters, request.limit)
        plan = planned(draft, _ALL)
        if not plan.entries:
            return plan
        operation_id = f"{request.kind[0]}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        await tools.told(
            self._settings,
            f"dlt.{request.kind}",
            f"operations/{operation_id}",
            tenant=filters.tenant,
            before={"entries": plan.entries, "filters": draft.shown},
            after={"reason": request.reason},
        )
        operation = await operations.start(draft, operation_id, reason=request.reason)
        return self._noted(operation, plan)

    async def resume(self, request: Request) -> OperationView:
        """See ``Desk``."""
        operation_id, operations = str(request.resume), await self._operations()
        await tools.told(self._settings, f"dlt.{request.kind}.resume", f"operations/{operation_id}", tenant=None)
        typer.echo("making sure that nobody else works on it, which takes up to 20 seconds …", err=True)
        operation = await operations.resume(request.kind, operation_id)
        return self._noted(operation, OperationView(id=None, kind=operation.kind, status="planned", entries=0))

    async def finish(self, operation: OperationView, rate: float, progress: Callable[[int], None]) -> Outcome:
        """See ``Desk``."""
        operations, begun = await self._operations(), self._begun[str(operation.id)]
        return Outcome(*await operations.run(begun, rate=rate, progress=progress))

    def _noted(self, operation: Operation, plan: OperationView) -> OperationView:
        self._begun[operation.id] = operation
        return plan.model_copy(update={"id": operation.id, "status": "running", "entries": operation.entries})

    async def _operations(self) -> Operations:
        if self._opened is None:
            self._opened = await self._stack.enter_async_context(tools.operations(self._settings))
        return self._opened

"""What ``keylane dlt`` asks for, and of whom: Kafka itself (``dlt_kafka``) or a gateway (``dlt_gateway``).

Both answer with the models of the gateway's API, so that what is printed is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.core.replay import Kind
    from streams.deadletters.entry import Filters
    from streams.gateway.letterviews import LetterDetail, OperationView
    from streams.gateway.views import DeadLetterView


class Request(NamedTuple):
    """What the operator asked for; ``rate`` in entries per second, 0 for no limit; ``url`` of a gateway to do it."""

    kind: Kind
    rate: float
    limit: int | None
    resume: str | None
    reason: str
    yes: bool
    output: Literal["table", "json"]
    url: str | None


class Outcome(NamedTuple):
    """Entries dealt with in this run, written by earlier ones, and deleted from the log; None where nobody can tell."""

    done: int | None
    before: int | None
    expired: int | None


class Desk(Protocol):
    """Where dead letters are looked at and dealt with. What cannot be done is one of ``dlt_operate.MISTAKES``."""

    resumable: str
    """What is said of an operation that stops, with ``{command}`` for the command that resumes it."""

    async def letters(self, filters: Filters, limit: int) -> list[DeadLetterView]:
        """At most so many, the newest first."""

    async def letter(self, ref: str) -> LetterDetail:
        """One of them."""

    async def plan(self, request: Request, filters: Filters) -> OperationView:
        """What would be done."""

    async def begin(self, request: Request, filters: Filters) -> OperationView:
        """Begin with it; without an id where there is nothing to do."""

    async def resume(self, request: Request) -> OperationView:
        """Take over what was stopped."""

    async def finish(self, operation: OperationView, rate: float, progress: Callable[[int], None]) -> Outcome:
        """Do the rest, or wait until it is done; ``progress`` is called with the number of entries dealt with."""

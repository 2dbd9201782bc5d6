"""Who asks, and what they may: every route with a scope is answered only to a caller who has it.

Invariant: behind a guarded route there is a ``Caller``; what a caller does not see answers as if it were not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from schemas.contract import Problem
from streams.door import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.door import RouteSpec
    from streams.gateway.limits import Limits

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
    Identify = Callable[[web.Request], Awaitable["Caller"]]


class Scope(StrEnum):
    """What a caller may do; ``ADMIN`` may do everything, for every tenant."""

    EVENTS_WRITE = "events:write"
    JOBS_WRITE = "jobs:write"
    JOBS_READ = "jobs:read"
    DLT_READ = "dlt:read"
    DLT_REPLAY = "dlt:replay"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: For limits, idempotency keys and the audit trail, for example ``key:k_3f9a``.
        tenant: The one tenant the caller belongs to; None may act for every tenant.
    """

    name: str
    tenant: str | None
    scopes: frozenset[str]

    @property
    def crosses(self) -> bool:
        """Whether it is known who asks, and what it does is done to somebody else's tenant."""
        return self.tenant is None and Scope.ADMIN in self.scopes and self.name != ANYBODY.name

    def may(self, scope: str) -> bool:
        """Whether the caller has the scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees(self, tenant: str) -> bool:
        """Whether what belongs to the tenant is there for the caller."""
        return self.tenant is None or self.tenant == tenant

    def acting_for(self, tenant: str | None, pointer: str = "/tenant") -> str:
        """The tenant of what the caller sends; ``tenant`` is the one named at ``pointer`` in the body.

        Raises:
            ProblemError: It names none though the caller has none of its own, or not the caller's own.
        """
        if tenant is None and self.tenant is None:
            raise _unfit("invalid-request", "Name the tenant.", pointer)
        if tenant is not None and not self.sees(tenant):
            raise _unfit("forbidden", "The tenant is not yours.", pointer)
        return tenant or self.tenant or ""


ANYBODY = Caller("anybody", None, frozenset({Scope.ADMIN}))
"""Who asks where the gateway authenticates nobody."""

CALLER = web.RequestKey("caller", Caller)


class Access(Protocol):
    """Tells who asks."""

    def at(self, path: str, scope: str) -> Identify:
        """What tells who sent a request to the route ``path``, a pattern that needs ``scope``.

        It raises ProblemError (``unauthenticated``) when the request does not prove who sent it, TransientError when
        what is needed to know is away.
        """


def check_operator(request: web.Request) -> None:
    """Make sure that who asks for figures of all tenants together belongs to none of them.

    Raises:
        ProblemError: The caller has a tenant (``forbidden``).
    """
    if request[CALLER].tenant is not None:
        raise ProblemError("forbidden", "These are figures of all tenants: this needs an admin without a tenant.")


class OpenAccess:
    """The ``Access`` of a gateway that authenticates nobody."""

    def at(self, path: str, scope: str) -> Identify:
        """Anybody."""
        del path, scope
        return anybody


async def anybody(request: web.Request) -> Caller:
    """Whoever it is."""
    del request
    return ANYBODY


def guarded(access: Access, limits: Limits, spec: RouteSpec, scope: str, handler: Handler) -> Handler:
    """The handler of the route, for callers with its scope, within the limits."""
    identify, applied = access.at(spec.path, scope), limits.at(spec)

    async def admitted(request: web.Request) -> web.StreamResponse:
        try:
            caller = await identify(request)
        except ProblemError:
            await limits.admit(request, None, applied)  # who guesses is limited by address
            raise
        if applied:
            await limits.admit(request, caller, applied)
        check(caller, scope, request)
        return await handler(request)

    return admitted


def check(caller: Caller, scope: str, request: web.Request) -> None:
    """Give the request its caller, who has the scope.

    Raises:
        ProblemError: The caller has not (``forbidden``).
    """
    if not caller.may(scope):
        raise ProblemError("forbidden", f"This needs the scope {scope}.", extra={"scope": scope})
    request[CALLER] = caller


def _unfit(kind: str, detail: str, pointer: str) -> ProblemError:
    return ProblemError(kind, detail, errors=(Problem(detail=detail, pointer=pointer),))

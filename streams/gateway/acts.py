"""Acts of administrators at the gateway, as the audit trail has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from streams.audit import Act
from streams.door import ProblemError
from streams.gateway.access import CALLER, Scope, check
from streams.gateway.middleware import REQUEST_ID
from streams.gateway.peers import PEERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from streams.audit import Audit
    from streams.gateway.access import Access, Handler

_log = structlog.get_logger(__name__)


def act(
    request: web.Request, what: str, target: str, *, tenant: str | None, before: Any = None, after: Any = None
) -> Act:
    """The act that the request asks for; ``before`` and ``after`` hold no secrets."""
    return Act(
        who=request[CALLER].name,
        what=what,
        target=target,
        tenant=tenant,
        source=request.config_dict[PEERS].address(request),
        request_id=request[REQUEST_ID],
        before=before,
        after=after,
    )


def told(audit: Audit, handler: Handler) -> Handler:
    """The handler of a route that changes something of a tenant's: it is written down when who asks has none."""

    async def acting(request: web.Request) -> web.StreamResponse:
        if request[CALLER].crosses:
            target = f"{request.method} {request.rel_url.raw_path}"
            await audit.record(act(request, "tenants.act", target, tenant=None))
        return await handler(request)

    return acting


def registrar(access: Access, audit: Audit) -> Callable[[web.Request], Awaitable[None]]:
    """Lets the administrators of all tenants, and nobody else, change what the registry at ``/registry`` holds."""
    identify = access.at("/registry", Scope.ADMIN)

    async def admit(request: web.Request) -> None:
        caller = await identify(request)
        check(caller, Scope.ADMIN, request)
        if caller.tenant is not None:
            raise ProblemError("forbidden", "Schemas are those of all tenants: this needs an admin without a tenant.")
        if caller.crosses:
            target = f"{request.method} {request.rel_url.raw_path}"
            await audit.record(act(request, "schemas.change", target, tenant=None))

    return admit


class LoggedAudit:
    """The ``Audit`` port of a gateway without master keys: acts are told in its log, where nothing protects them."""

    async def record(self, act: Act) -> None:
        """See ``Audit.record``."""
        _log.info("admin act", who=act.who, what=act.what, target=act.target, tenant=act.tenant, source=act.source)

"""Acts of administrators at the gateway, as the audit trail has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from streams.audit import Act
from streams.gateway.access import CALLER
from streams.gateway.middleware import REQUEST_ID

if TYPE_CHECKING:
    from aiohttp import web

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
        source=request.remote or "",
        request_id=request[REQUEST_ID],
        before=before,
        after=after,
    )


class LoggedAudit:
    """The ``Audit`` port of a gateway without master keys: acts are told in its log, where nothing protects them."""

    async def record(self, act: Act) -> None:
        """See ``Audit.record``."""
        _log.info("admin act", who=act.who, what=act.what, target=act.target, tenant=act.tenant, source=act.source)

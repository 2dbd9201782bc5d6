"""What consumers' own routes may use: the gateway's abilities behind the ``Door`` port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.gateway import body
from streams.gateway.access import CALLER
from streams.gateway.jobs import view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from redis.asyncio import Redis

    from schemas.contract import Contract
    from streams.door import Accepted
    from streams.gateway.lookup import Lookup
    from streams.gateway.submission import Submission


class GatewayDoor:
    """The ``Door`` port."""

    def __init__(self, submission: Submission, lookup: Lookup, redis: Redis, options: Mapping[str, Any]) -> None:
        self._submission = submission
        self._lookup = lookup
        self._redis = redis
        self._options = options

    @property
    def redis(self) -> Redis:
        """For limits and duplicates."""
        return self._redis

    @property
    def options(self) -> Mapping[str, Any]:
        """The catalogue's."""
        return self._options

    async def payload(self, request: web.Request, contract: Contract) -> Any:
        """See ``streams.door.Door.payload``."""
        return contract.from_value(await body.read(request))

    def tenant(self, request: web.Request, named: str | None, *, default: str) -> str:
        """See ``streams.door.Door.tenant``."""
        caller = request[CALLER]
        return default if named is None and caller.tenant is None else caller.acting_for(named)

    async def submit_job(
        self, contract: Contract, payload: Any, *, tenant: str, entity: str | None = None, job_id: str | None = None
    ) -> Accepted:
        """See ``streams.door.Door.submit_job``."""
        return await self._submission.submit(contract.name, payload, tenant=tenant, entity=entity, job_id=job_id)

    async def job(self, request: web.Request, job_id: str) -> dict[str, Any] | None:
        """See ``streams.door.Door.job``."""
        found = await self._lookup.find(job_id)
        if found is None or not request[CALLER].sees(found.tenant):
            return None
        return view(found).model_dump(mode="json")

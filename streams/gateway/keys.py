"""``/api/v1/keys``: administrators make, list and revoke API keys; one with a tenant those of that tenant alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from schemas.contract import Problem
from streams.door import ProblemError, RouteSpec
from streams.gateway import body
from streams.gateway.access import CALLER, Scope
from streams.gateway.acts import act
from streams.gateway.intake import rfc3339
from streams.gateway.jobs import json_answer
from streams.gateway.models import Answer, Moment, Name, Tenant
from streams.keys import PREFIX, Order, issue

if TYPE_CHECKING:
    from aiohttp import web

    from streams.gateway.keycache import KeyCache
    from streams.keys import ApiKey, Issued, KeyStore, Secrets

LOCATION = "/api/v1/keys"
_STATUSES = {401: "The credentials are missing or not valid.", 503: "The database is away; nothing was changed."}
_MODEL = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Keyring:
    """What keeps keys, and what remembers them."""

    store: KeyStore
    vault: Secrets
    cache: KeyCache


class KeyRequest(BaseModel):
    """A key to be made, by default for the caller's tenant; for an admin without one, for all tenants."""

    model_config = _MODEL

    name: Name
    scopes: Annotated[list[Annotated[Scope, Field(strict=False)]], Field(min_length=1, max_length=len(Scope))]
    tenant: Tenant | None = None
    expires_at: Moment | None = None


class KeyQuery(BaseModel):
    """Whose keys are meant."""

    model_config = _MODEL

    tenant: Tenant | None = None


class KeyView(Answer):
    """A key without its secrets; ``prefix`` names it."""

    prefix: str
    name: str
    scopes: list[str]
    tenant: str | None
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None


class KeyCreated(KeyView):
    """A new key; ``key`` and ``signing_secret`` are shown this once."""

    key: str
    signing_secret: str


class KeyList(Answer):
    """Keys, newest first."""

    keys: list[KeyView]


class KeyRoutes:
    """The routes of keys."""

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring

    def specs(self) -> tuple[RouteSpec, ...]:
        """The routes."""
        return (
            RouteSpec(
                method="POST",
                path=LOCATION,
                summary="Make an API key",
                scope=Scope.ADMIN,
                build=lambda _: self.post,
                body=KeyRequest,
                answer=KeyCreated,
                statuses={
                    201: "The key, shown this once.",
                    400: "The body does not fit.",
                    403: "The scope is missing, or the tenant is another one's.",
                    413: "The body is too large.",
                    415: "The body is not JSON.",
                    **_STATUSES,
                },
            ),
            RouteSpec(
                method="GET",
                path=LOCATION,
                summary="List API keys, newest first",
                scope=Scope.ADMIN,
                build=lambda _: self.get,
                query=KeyQuery,
                answer=KeyList,
                statuses={
                    200: "The keys, without their secrets.",
                    400: "A query parameter is unknown or does not fit.",
                    403: "The scope is missing, or the tenant is another one's.",
                    **_STATUSES,
                },
            ),
            RouteSpec(
                method="DELETE",
                path=LOCATION + "/{prefix}",
                summary="Revoke an API key; no gateway accepts it 5 seconds later",
                scope=Scope.ADMIN,
                build=lambda _: self.delete,
                answer=KeyView,
                statuses={
                    200: "It is revoked, now or before.",
                    403: "The scope is missing.",
                    404: "No key has this prefix, or it is another tenant's.",
                    **_STATUSES,
                },
            ),
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Make a key."""
        asked, caller = body.fitted(KeyRequest, await body.read(request)), request[CALLER]
        tenant = asked.tenant if caller.tenant is None else caller.acting_for(asked.tenant)
        expires_at = None if asked.expires_at is None else round(asked.expires_at.timestamp() * 1000)
        try:
            order = Order(name=asked.name, scopes=frozenset(asked.scopes), tenant=tenant, expires_at=expires_at)
            issued = issue(order, self._ring.vault, by=caller.name, now=_now())
        except ValueError as error:
            pointer = "/tenant" if tenant is None else "/expires_at"
            problem = Problem(detail=str(error), pointer=pointer)
            raise ProblemError("invalid-request", "The body does not fit.", errors=(problem,)) from None
        key = issued.key
        await self._ring.store.add(key, act(request, "keys.create", key.row, tenant=key.tenant, after=key.described()))
        return json_answer(created(issued), HTTPStatus.CREATED)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """List keys."""
        query, caller = body.fitted(KeyQuery, dict(request.query)), request[CALLER]
        tenant = query.tenant if caller.tenant is None else caller.acting_for(query.tenant)
        return json_answer(KeyList(keys=[shown(key) for key in await self._ring.store.all(tenant)]))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Revoke a key."""
        prefix = request.match_info["prefix"]
        key = (await self._ring.store.find([prefix])).get(prefix) if PREFIX.fullmatch(prefix) else None
        if key is None or not _manages(request, key):
            raise ProblemError("not-found", "No key has this prefix.")
        if key.revoked_at is None:
            revoked = key.revoked(_now())
            states = {"before": key.described(), "after": revoked.described()}
            asked = act(request, "keys.revoke", key.row, tenant=key.tenant, **states)
            key = await self._ring.store.revoke(revoked, asked)
            self._ring.cache.forget(prefix)
        return json_answer(shown(key))


def _manages(request: web.Request, key: ApiKey) -> bool:
    """Whether the key is there for the caller: one of no tenant is there for admins without one."""
    caller = request[CALLER]
    return caller.tenant is None or caller.tenant == key.tenant


def shown(key: ApiKey) -> KeyView:
    """The key without its secrets."""
    times = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at")}
    return KeyView(**key.described() | {name: None if at is None else rfc3339(at) for name, at in times.items()})


def created(issued: Issued) -> KeyCreated:
    """A new key with its secrets."""
    return KeyCreated(**shown(issued.key).model_dump(), key=issued.text, signing_secret=issued.signing_secret)


def _now() -> int:
    return time.time_ns() // 1_000_000

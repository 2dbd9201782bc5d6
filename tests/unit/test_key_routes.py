from __future__ import annotations

from typing import Any

import pytest

from streams.gateway.access import Scope
from streams.job import TransientError
from tests.access_doubles import Gate, bearer
from tests.gateway_doubles import JOB

ASKED = {"name": "billing", "scopes": ["jobs:write"], "tenant": "steppe"}


async def created(client: Any, headers: dict[str, str], **changes: Any) -> tuple[int, dict[str, Any]]:
    body = {name: value for name, value in (ASKED | changes).items() if value is not None}
    async with client.post("/api/v1/keys", json=body, headers=headers) as response:
        return response.status, await response.json()


async def test_a_key_is_made_used_listed_and_revoked() -> None:
    gate = Gate()
    admin = bearer(gate.key(Scope.ADMIN, tenant=None))
    async with gate.bench().client() as client:
        status, made = await created(client, admin, expires_at="2030-01-01T00:00:00+08:00")
        assert status == 201
        assert made["key"].startswith(f"kl_{made['prefix']}_")
        assert made["expires_at"] == "2029-12-31T16:00:00.000Z"

        key = {"X-API-Key": made["key"]}
        assert (await client.post("/api/v1/jobs", json=JOB, headers=key)).status == 202
        listed = await (await client.get("/api/v1/keys", headers=admin)).json()
        assert made["prefix"] in {each["prefix"] for each in listed["keys"]}
        assert made["key"] not in str(listed)
        assert made["signing_secret"] not in str(listed)

        for _ in range(2):  # once is enough, and again is no fault
            response = await client.delete(f"/api/v1/keys/{made['prefix']}", headers=admin)
            assert (await response.json())["revoked_at"]
        assert (await client.post("/api/v1/jobs", json=JOB, headers=key)).status == 401, "here it counts at once"


async def test_each_act_is_told_once_with_who_what_when_and_from_where() -> None:
    gate = Gate()
    admin = gate.key(Scope.ADMIN, tenant=None)
    async with gate.bench().client() as client:
        headers = bearer(admin) | {"X-Request-Id": "r-1"}
        _, made = await created(client, headers)
        for _ in range(2):
            await client.delete(f"/api/v1/keys/{made['prefix']}", headers=headers)
    create, revoke = gate.store.acts
    target = f"api_keys/{made['prefix']}"
    for act, what in ((create, "keys.create"), (revoke, "keys.revoke")):
        assert (act.who, act.what, act.target) == (f"key:{admin.key.prefix}", what, target)
        assert (act.tenant, act.source, act.request_id) == ("steppe", "127.0.0.1", "r-1")
    assert (create.before, create.after["name"]) == (None, "billing")
    assert (revoke.before["revoked_at"], revoke.after["revoked_at"] is None) == (None, False)
    assert made["key"] not in str(gate.store.acts)
    assert made["signing_secret"] not in str(gate.store.acts)


async def test_what_cannot_be_written_down_is_not_done() -> None:
    gate = Gate()
    admin, other = gate.key(Scope.ADMIN, tenant=None), gate.key("jobs:write")
    async with gate.bench().client() as client:
        assert (await client.get("/api/v1/keys", headers=bearer(admin))).status == 200
        gate.store.away = TransientError("away")
        before = dict(gate.store.keys)
        assert (await created(client, bearer(admin)))[0] == 503
        assert (await client.delete(f"/api/v1/keys/{other.key.prefix}", headers=bearer(admin))).status == 503
    assert (gate.store.keys, gate.store.acts) == (before, [])


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"tenant": None}, "/tenant"),
        ({"tenant": "a/b"}, "/tenant"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["jobs:delete"]}, "/scopes/0"),
        ({"name": ""}, "/name"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2030-01-01"}, "/expires_at"),
        ({"expires_at": 1893456000}, "/expires_at"),
        ({"hash": "x"}, "/hash"),
    ],
)
async def test_an_order_that_does_not_fit_is_a_400_that_points_at_the_place(
    changes: dict[str, Any], pointer: str
) -> None:
    gate = Gate()
    async with gate.bench().client() as client:
        status, problem = await created(client, bearer(gate.key(Scope.ADMIN, tenant=None)), **changes)
    assert (status, [each["pointer"] for each in problem["errors"]]) == (400, [pointer])


async def test_an_admin_of_one_tenant_makes_keys_for_that_tenant_alone() -> None:
    gate = Gate()
    async with gate.bench().client() as client:
        admin = bearer(gate.key(Scope.ADMIN, tenant="forest"))
        assert (await created(client, admin))[0] == 403
        status, made = await created(client, admin, tenant=None, scopes=["admin"])
        assert (status, made["tenant"]) == (201, "forest")
        everybodys = gate.key(Scope.ADMIN, tenant=None)
        assert (await client.delete(f"/api/v1/keys/{everybodys.key.prefix}", headers=admin)).status == 404


async def test_a_prefix_that_is_none_is_a_404() -> None:
    gate = Gate()
    async with gate.bench().client() as client:
        admin = bearer(gate.key(Scope.ADMIN, tenant=None))
        for prefix in ("0" * 12, "nobody", "%00", "é"):
            assert (await client.delete(f"/api/v1/keys/{prefix}", headers=admin)).status == 404

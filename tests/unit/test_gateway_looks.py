from __future__ import annotations

import asyncio

import pytest

from streams.job import TransientError
from tests.gateway_doubles import Bench
from tests.unit.test_gateway_joblist import As
from tests.unit.test_gateway_jobs import problem


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_key_is_looked_at_by_its_whole_record_key(bench: Bench) -> None:
    async with bench.client() as client:
        found = await (await client.get("/api/v1/lanes/steppe/a%2Fb", params={"group": "emails"})).json()

    assert found["key"] == "steppe/a/b"
    assert bench.looks.looked == ["steppe/a/b emails"]


async def test_a_group_that_is_not_there_and_another_tenants_key_are_not_found(bench: Bench) -> None:
    bench.changes = {"access": As("taiga", "jobs:read")}
    async with bench.client() as client:
        found = await problem(await client.get("/api/v1/lanes/taiga/a", params={"group": "nothing"}), 404, "not-found")
        for key in ("steppe/a", "bare"):
            await problem(await client.get(f"/api/v1/lanes/{key}"), 404, "not-found")
        await problem(await client.get("/api/v1/lanes/taiga/a", params={"depth": "1"}), 400, "invalid-request")

    assert found["detail"] == "There is no group 'nothing'."
    assert bench.looks.looked == ["taiga/a nothing"]


@pytest.mark.parametrize("what", ["queues", "topics"])
async def test_many_who_ask_for_figures_cost_as_much_as_one(bench: Bench, what: str) -> None:
    async with bench.client() as client:
        answers = await asyncio.gather(*(client.get(f"/api/v1/{what}") for _ in range(20)))
        found = [await answer.json() for answer in answers]

    assert all(one == found[0] for one in found)
    assert what in found[0]
    assert bench.looks.looked == [what]


@pytest.mark.parametrize("what", ["queues", "topics"])
async def test_figures_of_all_tenants_are_for_administrators(bench: Bench, what: str) -> None:
    async with bench.client() as client:
        assert (await client.get(f"/api/v1/{what}")).status == 200
    for scopes in (("jobs:read", "dlt:read"), ("admin",)):
        bench.changes = {"access": As("taiga", *scopes)}
        async with bench.client() as client:
            await problem(await client.get(f"/api/v1/{what}"), 403, "forbidden")


async def test_a_broker_that_is_away_is_said(bench: Bench) -> None:
    bench.looks.away = TransientError("away")
    async with bench.client() as client:
        for path in ("lanes/steppe/a", "queues", "topics"):
            await problem(await client.get(f"/api/v1/{path}"), 503, "unavailable")

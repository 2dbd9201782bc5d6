"""``Idempotency-Key``: one request, one piece of work, one answer; on a memory that forgets, or is away."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from streams.core.headers import REQUEST, text
from streams.door import RouteSpec
from streams.event import from_headers
from streams.gateway.access import Caller, Scope
from streams.job import TransientError
from tests.eventually import eventually
from tests.gateway_doubles import CATALOGUE, EVENT, HELD, JOB, PAYLOAD, Bench

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from aiohttp.test_utils import TestClient

KEY = {"Idempotency-Key": '"8e03978e-40d5"'}
BATCH = {"jobs": [JOB, JOB | {"payload": PAYLOAD | {"user_id": "user-2"}}]}


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Tokens:
    """Who asks is named in a header."""

    def at(self, path: str, scope: str) -> Any:
        return self._caller

    async def _caller(self, request: web.Request) -> Caller:
        name, _, tenant = request.headers["X-Who"].partition("@")
        return Caller(name, tenant or None, frozenset({Scope.ADMIN}))


async def kind(response: ClientResponse) -> str:
    return str((await response.json(content_type=None))["type"]).rpartition("/")[2]


@pytest.mark.parametrize(
    ("path", "body", "topic", "records"),
    [
        ("/api/v1/jobs", JOB, "jobs.emails", 1),
        ("/api/v1/jobs:batch", BATCH, "jobs.emails", 2),
        ("/api/v1/events", EVENT, "events.reservation", 1),
    ],
)
async def test_the_same_request_is_carried_out_once_and_answered_the_same(
    bench: Bench, path: str, body: Any, topic: str, records: int
) -> None:
    async with bench.client() as client:
        first = await client.post(path, json=body, headers=KEY)
        again = await client.post(path, json=body, headers={"Idempotency-Key": "8e03978e-40d5"})

        assert (first.status, again.status) == (202, 202)
        assert await first.read() == await again.read()
        assert first.headers.get("Location") == again.headers.get("Location")
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert len(bench.log.of(topic)) == records
    assert bench.requests.calls == ["begin", "finish", "begin"]


async def test_without_a_key_nothing_is_looked_up(bench: Bench) -> None:
    async with bench.client() as client:
        for _ in range(2):
            assert (await client.post("/api/v1/jobs", json=JOB)).status == 202

    assert bench.requests.calls == []
    assert len(bench.log.of("jobs.emails")) == 2
    assert text(bench.log.of("jobs.emails")[0].headers, REQUEST) is None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/jobs", JOB | {"key": "another"}),
        ("/api/v1/jobs:batch", {"jobs": [JOB]}),
        ("/api/v1/events", EVENT),
    ],
)
async def test_a_key_that_stands_for_another_request_is_a_422(bench: Bench, path: str, body: Any) -> None:
    async with bench.client() as client:
        await client.post("/api/v1/jobs", json=JOB, headers=KEY)
        response = await client.post(path, json=body, headers=KEY)

        assert (response.status, await kind(response)) == (422, "key-reused")
    assert len(bench.log.messages) == 2


async def test_a_cloud_events_headers_are_part_of_the_request(bench: Bench) -> None:
    event = {"specversion": "1.0", "id": "e-1", "source": "/s", "type": "reservation.held", "tenant": "steppe"}
    headers = KEY | {f"ce-{name}": value for name, value in event.items()}
    async with bench.client() as client:
        first = await client.post("/api/v1/events", json=HELD, headers=headers | {"ce-subject": "r-1"})
        other = await client.post("/api/v1/events", json=HELD, headers=headers | {"ce-subject": "r-2"})

    assert (first.status, other.status) == (202, 422)


async def test_while_the_first_is_under_way_the_others_are_told_to_come_again(bench: Bench) -> None:
    bench.changes = {"patience": 5.0}
    bench.log.hangs = {"jobs.emails"}
    async with bench.client() as client:
        first = asyncio.create_task(client.post("/api/v1/jobs", json=JOB, headers=KEY))

        async def begun() -> bool:
            return bool(bench.requests.known)

        await eventually(begun)
        twins = [await client.post("/api/v1/jobs", json=JOB, headers=KEY) for _ in range(9)]
        bench.log.go.set()
        assert (await first).status == 202
        assert {(each.status, each.headers["Retry-After"]) for each in twins} == {(409, "1")}
        assert await kind(twins[0]) == "in-flight"
        assert (await client.post("/api/v1/jobs", json=JOB, headers=KEY)).status == 202
    assert len(bench.log.of("jobs.emails")) == 1


@pytest.mark.parametrize("key", ["", '""', '"open', 'a"b', "a b", '"é"', "x" * 256])
async def test_a_key_that_cannot_be_used_is_named(bench: Bench, key: str) -> None:
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs", json=JOB, headers={"Idempotency-Key": key})
        found = await response.json(content_type=None)

    assert (response.status, found["errors"][0]["header"]) == (400, "Idempotency-Key")
    assert bench.requests.calls == []


async def test_what_was_not_taken_in_is_not_kept(bench: Bench) -> None:
    async with bench.client() as client:
        wrong = await client.post("/api/v1/jobs", json=JOB | {"type": "nothing.known"}, headers=KEY)
        bench.log.faults["jobs.emails"] = TransientError("away")
        away = await client.post("/api/v1/jobs", json=JOB, headers=KEY)
        bench.log.faults.clear()
        right = await client.post("/api/v1/jobs", json=JOB, headers=KEY)

    assert (wrong.status, away.status, right.status) == (400, 503, 202)
    assert "Idempotency-Replayed" not in right.headers
    assert bench.requests.counted == {"new": 3, "released": 2}


async def test_a_batch_of_which_a_part_may_still_be_taken_is_not_kept(bench: Bench) -> None:
    bench.log.refuse_next = TransientError("away")
    async with bench.client() as client:
        first = await client.post("/api/v1/jobs:batch", json=BATCH, headers=KEY)
        again = await client.post("/api/v1/jobs:batch", json=BATCH, headers=KEY)
        statuses = [each["status"] for each in (await first.json())["results"]]

    assert (first.status, statuses, again.status) == (207, [503, 202], 202)
    assert "Idempotency-Replayed" not in again.headers


async def test_ids_are_made_of_the_caller_the_tenant_and_the_key(bench: Bench) -> None:
    bench.changes = {"access": Tokens()}

    async def ids(client: TestClient[Any, Any], who: str, body: Any, key: str = "k") -> list[str]:
        headers = {"X-Who": who, "Idempotency-Key": key}
        response = await client.post("/api/v1/jobs:batch", json=body, headers=headers)
        return [each["id"] for each in (await response.json())["results"]]

    async with bench.client() as client:
        first = await ids(client, "ada@steppe", BATCH)
        bench.requests.known.clear()
        again = await ids(client, "ada@steppe", BATCH)
        others = [
            await ids(client, "bob@steppe", BATCH),
            await ids(client, "ada", {"jobs": [JOB | {"tenant": "other"}, JOB | {"tenant": "other"}]}),
            await ids(client, "ada@steppe", BATCH, key="l"),
        ]

    assert first == again
    assert {uuid.UUID(each).version for each in first} == {8}
    assert len(set(first).union(*others)) == 8


async def test_records_of_a_request_bear_what_workers_know_them_by(bench: Bench) -> None:
    async with bench.client() as client:
        for _ in range(2):
            await client.post("/api/v1/jobs", json=JOB | {"id": "mine"}, headers=KEY)
            bench.requests.known.clear()  # as if Redis had been flushed

    first, again = bench.log.of("jobs.emails")
    assert from_headers(first.headers)["id"] == from_headers(again.headers)["id"] == "mine"
    assert text(first.headers, REQUEST) == text(again.headers, REQUEST)
    assert uuid.UUID(text(first.headers, REQUEST)).version == 8


async def test_without_redis_requests_are_carried_out_under_the_same_ids(bench: Bench) -> None:
    bench.requests.away = TransientError("away")
    async with bench.client() as client:
        made = [await (await client.post("/api/v1/jobs", json=JOB, headers=KEY)).json() for _ in range(2)]
        stats = await client.get("/api/v1/idempotency/stats")

    assert made[0]["id"] == made[1]["id"]
    assert stats.status == 503
    assert b'keylane_idempotency_total{outcome="unchecked"} 2.0' in bench.metrics.text()


async def test_the_statistics_count_what_became_of_requests(bench: Bench) -> None:
    async with bench.client() as client:
        for body in (JOB, JOB, JOB | {"key": "x"}):
            await client.post("/api/v1/jobs", json=body, headers=KEY)
        found = await (await client.get("/api/v1/idempotency/stats")).json()

    assert found == {
        "new": 1,
        "replayed": 1,
        "in_flight": 0,
        "reused": 1,
        "released": 0,
        "keep_seconds": 172_800.0,
        "in_flight_seconds": 10.0,
    }


async def test_the_statistics_of_all_are_not_for_the_administrator_of_one_tenant(bench: Bench) -> None:
    bench.changes = {"access": Tokens()}
    async with bench.client() as client:
        asked = [await client.get("/api/v1/idempotency/stats", headers={"X-Who": who}) for who in ("ada@steppe", "ada")]

    assert [each.status for each in asked] == [403, 200]


async def test_a_consumers_route_may_be_repeated_under_a_key(bench: Bench) -> None:
    done: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        done.append(await request.json())
        return web.json_response({"number": len(done)}, status=202)

    route = RouteSpec(
        method="POST",
        path="/api/things",
        summary="Take a thing",
        scope=Scope.JOBS_WRITE,
        build=lambda _: take,
        repeatable=True,
        statuses={202: "Taken."},
    )
    bench.catalogue = replace(CATALOGUE, routes=(route,))
    async with bench.client() as client:
        answers = [await client.post("/api/things", json={"a": 1}, headers=KEY) for _ in range(2)]
        plain = await client.post("/api/things", json={"a": 1})
        told = [(await each.json())["number"] for each in (*answers, plain)]
        described = (await (await client.get("/openapi.json")).json())["paths"]["/api/things"]["post"]

    assert told == [1, 1, 2]
    assert [each["name"] for each in described["parameters"]] == ["Idempotency-Key"]
    assert {"409", "422"} <= set(described["responses"])

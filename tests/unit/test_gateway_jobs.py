from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from schemas.errors import RegistryUnavailableError
from schemas.job_status.model import Status
from streams.event import from_headers
from streams.job import TransientError
from streams.ports import RecordRefusedError
from tests.eventually import eventually
from tests.gateway_doubles import JOB, PAYLOAD, Bench

if TYPE_CHECKING:
    from aiohttp import ClientResponse


@pytest.fixture
def bench() -> Bench:
    return Bench()


def stored_status(job_id: str) -> Status:
    return Status(
        job_id=job_id,
        type="notification.signin",
        queue="emails",
        tenant="steppe",
        key="steppe/user-1",
        status="completed",
        attempt=1,
        replays=0,
        time=1_700_000_000_123,
        topic="jobs.emails",
        partition=2,
        offset=5,
        payload='{"a": 1}',
        result='{"sent": true}',
    )


async def problem(response: ClientResponse, status: int, kind: str) -> dict[str, Any]:
    assert (response.status, response.content_type) == (status, "application/problem+json")
    found: dict[str, Any] = await response.json()
    assert found["type"] == f"https://keylane.example/problems/{kind}"
    assert found["status"] == status
    assert found["request_id"] == response.headers["X-Request-Id"]
    return found


async def test_a_job_is_accepted_once_both_its_records_are_acknowledged(bench: Bench) -> None:
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs", json=JOB)
        accepted = await response.json()

    assert response.status == 202
    assert response.headers["Location"] == accepted["location"] == f"/api/v1/jobs/{accepted['id']}"
    assert (accepted["topic"], accepted["partition"], accepted["offset"]) == ("jobs.emails", 0, 0)
    (record,) = bench.log.of("jobs.emails")
    attributes = from_headers(record.headers)
    assert record.key == b"steppe/user-1"
    assert (attributes["id"], attributes["type"], attributes["tenant"]) == (
        accepted["id"],
        "notification.signin",
        "steppe",
    )
    (told,) = bench.log.of("job-status")
    (status,) = await bench.payloads("job-status")
    assert told.key == f"steppe/{accepted['id']}".encode(), "as the worker's statuses of the same job"
    assert (status.status, status.attempt, status.tenant, status.key) == ("pending", 0, "steppe", "steppe/user-1")


async def test_ids_are_uuids_of_version_7_unless_the_client_gives_one(bench: Bench) -> None:
    async with bench.client() as client:
        made = [(await (await client.post("/api/v1/jobs", json=JOB)).json())["id"] for _ in range(2)]
        given = (await (await client.post("/api/v1/jobs", json=JOB | {"id": "signin:1", "key": "u/2"})).json())["id"]

    assert {uuid.UUID(each).version for each in made} == {7}
    assert made[0][:13] <= made[1][:13]
    assert given == "signin:1"
    assert bench.log.of("jobs.emails")[-1].key == b"steppe/u/2"


async def test_a_payload_that_does_not_fit_is_refused_with_every_place(bench: Bench) -> None:
    payload = {**PAYLOAD, "email": "nobody", "extra": 1}
    del payload["name"]
    async with bench.client() as client:
        found = await problem(
            await client.post("/api/v1/jobs", json=JOB | {"payload": payload}), 400, "invalid-request"
        )

    assert {error["pointer"] for error in found["errors"]} == {"/payload/email", "/payload/name", "/payload/extra"}
    assert all(error["detail"] for error in found["errors"])
    assert bench.log.messages == []


@pytest.mark.parametrize("option", ["run_at", "delay", "priority", "anything"])
async def test_an_option_that_is_not_carried_out_is_refused(bench: Bench, option: str) -> None:
    async with bench.client() as client:
        found = await problem(await client.post("/api/v1/jobs", json=JOB | {option: 1}), 400, "invalid-request")

    assert [error["pointer"] for error in found["errors"]] == [f"/{option}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant", ""),
        ("tenant", "a/b"),
        ("tenant", "a\nb"),
        ("tenant", "\ud800"),
        ("key", ""),
        ("key", "\x00"),
        ("key", "\udfff"),
        ("id", "a b"),
        ("id", "é"),
        ("id", "../x"),
        ("id", "x" * 201),
        ("type", 7),
    ],
)
async def test_a_field_that_does_not_fit_is_named(bench: Bench, name: str, value: object) -> None:
    async with bench.client() as client:
        found = await problem(await client.post("/api/v1/jobs", json=JOB | {name: value}), 400, "invalid-request")

    assert [error["pointer"] for error in found["errors"]] == [f"/{name}"]


async def test_an_unknown_type_is_answered_with_the_known_ones(bench: Bench) -> None:
    async with bench.client() as client:
        found = await problem(await client.post("/api/v1/jobs", json=JOB | {"type": "nft.mint"}), 400, "unknown-type")

    assert found["known"] == ["notification.signin"]


async def test_a_job_the_broker_does_not_take_is_a_503_and_does_not_stay_pending(bench: Bench) -> None:
    bench.log.faults["jobs.emails"] = TransientError("away")
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs", json=JOB | {"id": "j1"})
        found = await problem(response, 503, "unavailable")

    assert response.headers["Retry-After"] == "1"
    assert found["job_id"] == "j1"
    statuses = await bench.payloads("job-status")
    assert [(each.job_id, each.status) for each in statuses] == [("j1", "pending"), ("j1", "failed")]


async def test_without_an_acknowledged_status_there_is_no_202(bench: Bench) -> None:
    bench.log.faults["job-status"] = TransientError("away")
    async with bench.client() as client:
        await problem(await client.post("/api/v1/jobs", json=JOB), 503, "unavailable")


async def test_a_broker_that_hangs_is_a_503_within_the_patience(bench: Bench) -> None:
    bench.log.hangs = {"jobs.emails", "job-status"}
    async with bench.client() as client:
        async with asyncio.timeout(1):
            await problem(await client.post("/api/v1/jobs", json=JOB), 503, "unavailable")
        bench.log.hangs = set()
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 202


async def test_above_the_bound_requests_are_refused_at_once_and_later_taken_again(bench: Bench) -> None:
    bench.changes = {"unacknowledged": 4, "patience": 0.5}
    bench.log.hangs = {"jobs.emails", "job-status"}

    async def full() -> bool:
        return "keylane_unacknowledged 4.0" in bench.metrics.text().decode()

    async with bench.client() as client:
        waiting = [asyncio.create_task(client.post("/api/v1/jobs", json=JOB)) for _ in range(2)]
        await eventually(full)
        response = await client.post("/api/v1/jobs", json=JOB)
        assert not any(task.done() for task in waiting)
        await problem(response, 503, "overloaded")
        assert response.headers["Retry-After"] == "1"
        for task in waiting:
            await problem(await task, 503, "unavailable")
        bench.log.hangs = set()
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 202
    assert "keylane_unacknowledged 0.0" in bench.metrics.text().decode()


async def test_a_payload_too_long_for_its_status_is_accepted_without_it_there() -> None:
    bench = Bench(longest_value=600)
    async with bench.client() as client:
        payload = PAYLOAD | {"user_agent": "x" * 400}
        assert (await client.post("/api/v1/jobs", json=JOB | {"payload": payload})).status == 202
        payload = PAYLOAD | {"user_agent": "x" * 700}
        await problem(await client.post("/api/v1/jobs", json=JOB | {"payload": payload}), 413, "too-large")

    (status,) = await bench.payloads("job-status")
    assert status.payload is None


async def test_a_registry_that_is_away_is_a_503(bench: Bench) -> None:
    bench.registry.away = RegistryUnavailableError("away")
    async with bench.client() as client:
        await problem(await client.post("/api/v1/jobs", json=JOB), 503, "unavailable")


async def test_a_record_the_broker_never_takes_is_a_413(bench: Bench) -> None:
    bench.log.faults["jobs.emails"] = RecordRefusedError("too large")
    async with bench.client() as client:
        await problem(await client.post("/api/v1/jobs", json=JOB), 413, "too-large")


async def test_a_stored_job_is_shown(bench: Bench) -> None:
    bench.history.store(stored_status("j1"))
    async with bench.client() as client:
        found = await (await client.get("/api/v1/jobs/j1")).json()

    assert (found["id"], found["status"], found["payload"], found["result"]) == (
        "j1",
        "completed",
        {"a": 1},
        {"sent": True},
    )
    assert (found["partition"], found["offset"], found["created_at"]) == (2, 5, "2023-11-14T22:13:20.123Z")


async def test_a_job_unknown_to_a_history_that_has_caught_up_is_a_404(bench: Bench) -> None:
    async with bench.client() as client:
        await problem(await client.get("/api/v1/jobs/nobody"), 404, "not-found")


async def test_a_history_that_is_behind_is_waited_for(bench: Bench) -> None:
    bench.history.caught_up = False
    async with bench.client() as client:
        asked = asyncio.create_task(client.get("/api/v1/jobs/j1"))
        await asyncio.wait([asked], timeout=0.05)
        assert not asked.done()
        bench.history.store(stored_status("j1"))
        assert (await asked).status == 200


async def test_a_history_too_far_behind_is_a_503_and_never_a_404(bench: Bench) -> None:
    bench.history.caught_up = False
    async with bench.client() as client:
        await problem(await client.get("/api/v1/jobs/j1"), 503, "unavailable")


async def test_a_database_that_is_away_is_a_503(bench: Bench) -> None:
    bench.history.away = TransientError("away")
    async with bench.client() as client:
        await problem(await client.get("/api/v1/jobs/j1"), 503, "unavailable")

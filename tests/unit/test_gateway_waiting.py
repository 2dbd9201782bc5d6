"""Waiting for the end of a job: by the query, or by a preference."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from schemas.job_status.model import CONTRACT as STATUS
from schemas.job_status.model import Status
from streams.event import from_headers
from streams.history import status_key
from streams.job import TransientError
from streams.live import feed as feed_module
from streams.live.feed import Feed
from streams.live.reading import Reading
from streams.ports import Message
from tests.eventually import eventually
from tests.gateway_doubles import JOB, TOPICS, Bench

if TYPE_CHECKING:
    from aiohttp import ClientResponse

KEY = {"Idempotency-Key": "k"}


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def tell(bench: Bench, job_id: str, state: str, **changes: Any) -> None:
    status = Status(
        job_id=job_id,
        type="notification.signin",
        queue="emails",
        tenant="steppe",
        key="steppe/user-1",
        status=state,
        attempt=1,
        replays=0,
        time=1_700_000_000_000,
        topic="jobs.emails",
        partition=0,
        offset=0,
    ).model_copy(update=changes)
    await bench.log.publish(
        Message("job-status", status_key(status.tenant, job_id), await bench.codec.encode(STATUS, status))
    )


async def ended(bench: Bench, response: asyncio.Task[ClientResponse], **changes: Any) -> ClientResponse:
    """The answer to a post whose job is told to have ended once it is stored."""

    async def stored() -> bool:
        return bool(bench.log.of("jobs.emails"))

    await eventually(stored)
    assert not response.done()
    job_id = from_headers(bench.log.of("jobs.emails")[-1].headers)["id"]
    await tell(bench, job_id, "processing")
    await tell(bench, job_id, "completed", result='{"sent": true}', **changes)
    return await response


@pytest.mark.parametrize(
    ("query", "headers", "applied"),
    [
        ("?wait=30", {}, None),
        ("", {"Prefer": "wait=30"}, "wait=30"),
        ("", {"Prefer": "respond-async, wait=30; x"}, "respond-async, wait=30"),
        ("", {"Prefer": 'WAIT="900"'}, "wait=60"),
        ("?wait=30", {"Prefer": "wait=0"}, None),
    ],
)
async def test_a_job_that_ends_in_time_is_the_answer(
    bench: Bench, query: str, headers: dict[str, str], applied: str | None
) -> None:
    async with bench.client() as client:
        post = asyncio.create_task(client.post(f"/api/v1/jobs{query}", json=JOB, headers=headers))
        response = await ended(bench, post)
        shown = await response.json()

    assert (response.status, shown["status"], shown["result"]) == (200, "completed", {"sent": True})
    assert shown["payload"]["user_id"] == "user-1"
    assert response.headers["Location"] == f"/api/v1/jobs/{shown['id']}"
    assert response.headers.get("Preference-Applied") == applied


@pytest.mark.parametrize(
    ("query", "headers", "applied"),
    [
        ("", {}, None),
        ("?wait=0", {}, None),
        ("", {"Prefer": "respond-async"}, "respond-async"),
        ("", {"Prefer": "return=minimal, wait=soon"}, None),
        ("", {"Prefer": "wait=0"}, "wait=0"),
    ],
)
async def test_who_does_not_wait_is_answered_at_once(
    bench: Bench, query: str, headers: dict[str, str], applied: str | None
) -> None:
    async with bench.client() as client:
        response = await client.post(f"/api/v1/jobs{query}", json=JOB, headers=headers)

    assert (response.status, response.headers.get("Preference-Applied")) == (202, applied)


async def test_a_job_that_does_not_end_in_time_is_a_202(bench: Bench) -> None:
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs?wait=1", json=JOB)
        accepted = await response.json()

    assert (response.status, accepted["status"]) == (202, "pending")


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=x", "weight=1"])
async def test_a_query_that_does_not_fit_is_refused(bench: Bench, query: str) -> None:
    async with bench.client() as client:
        response = await client.post(f"/api/v1/jobs?{query}", json=JOB)
        found = await response.json(content_type=None)

    assert (response.status, found["errors"][0]["pointer"]) == (400, f"/{query.partition('=')[0]}")
    assert bench.log.messages == []


async def test_another_tenants_job_of_the_same_id_is_not_shown(bench: Bench) -> None:
    async with bench.client() as client:
        post = asyncio.create_task(client.post("/api/v1/jobs?wait=1", json=JOB | {"id": "j1"}))

        async def stored() -> bool:
            return bool(bench.log.of("jobs.emails"))

        await eventually(stored)
        await tell(bench, "j1", "completed", tenant="other", result='"secret"')
        response = await post
        assert response.status == 202
        assert "secret" not in await response.text()


async def test_who_repeats_a_request_waits_too_and_hears_of_an_end_that_came_before(bench: Bench) -> None:
    async with bench.client() as client:
        first = await client.post("/api/v1/jobs", json=JOB, headers=KEY)
        job_id = (await first.json())["id"]
        post = asyncio.create_task(client.post("/api/v1/jobs?wait=30", json=JOB, headers=KEY))
        await asyncio.wait([post], timeout=0.05)
        assert not post.done()
        bench.history.store((await bench.payloads("job-status"))[0])
        bench.history.store(
            (await bench.payloads("job-status"))[0].model_copy(update={"status": "completed", "attempt": 1})
        )
        response = await post
        shown = await response.json()

    assert (response.status, shown["id"], shown["status"]) == (200, job_id, "completed")
    assert response.headers["Idempotency-Replayed"] == "true"
    assert len(bench.log.of("jobs.emails")) == 1


async def test_where_ends_cannot_be_heard_nothing_is_published(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module.Feed, "_find_topics", _away)
    monkeypatch.setattr(feed_module, "_PATIENCE", 0.05)
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs?wait=5", json=JOB)
        assert response.status == 503
        assert (await client.post("/api/v1/jobs", json=JOB)).status == 202
    assert len(bench.log.of("jobs.emails")) == 1


async def test_where_too_many_listen_nothing_is_published(bench: Bench) -> None:
    reading = Reading(bench.codec, bench.metrics)
    bench.changes = {"feed": Feed(bench.log, bench.log, reading, TOPICS, bench.metrics, most=0)}
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs?wait=5", json=JOB)

    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert bench.log.messages == []


async def _away(_feed: object) -> None:
    raise TransientError("away")

"""Jobs looked at and driven through real gateways while real workers run them: cancelled, retried, told of live."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from streams.app.worker import worker
from streams.core.retry import RetryPolicy
from streams.job import Done
from tests.eventually import eventually
from tests.gateway_doubles import EVENT, HELD, JOB, PAYLOAD
from tests.integration.test_gateway import apply_topics, on_a_free_port, post, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import ClientResponse, ClientSession

    from streams.job import Group
    from streams.settings import Settings

GROUP = "emails"


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await apply_topics(settings)
    return on_a_free_port(settings.model_copy(update={"tier_scale": 0.5}))


DOES = ("ends", "waits", "fails")


class House:
    """A handler that does what each job's ``name`` says, and tells when it begins."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.begun = asyncio.Event()

    async def handle(self, payload: Any, ctx: Any) -> Done:
        if payload.name not in DOES:
            return Done()  # what other tests have left in the topic
        self.ran.append(ctx.id)
        if payload.name == "waits":
            self.begun.set()
            await asyncio.sleep(600)
        if payload.name == "fails" and ctx.replays == 0:
            raise ValueError("no")
        return Done({"ran": len(self.ran)})

    def adapt(self, group: Group) -> Group:
        if group.name != GROUP:
            return group
        retry = RetryPolicy(attempts=2)
        works = {name: replace(work, handler=self.handle, retry=retry) for name, work in group.works.items()}
        return replace(group, works=works)

    @asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[None]:
        async with worker(settings, [GROUP, "history"], adapt=self.adapt):
            yield


def job(job_id: str, key: str, does: str = "ends", tenant: str = "steppe") -> dict[str, Any]:
    return JOB | {"id": job_id, "key": key, "tenant": tenant, "payload": {**PAYLOAD, "name": does}}


async def shown(client: ClientSession, job_id: str) -> dict[str, Any]:
    async with client.get(f"/api/v1/jobs/{job_id}") as response:
        found: dict[str, Any] = await response.json()
        return found


async def becomes(client: ClientSession, job_id: str, status: str) -> dict[str, Any]:
    async def has() -> bool:
        return (await shown(client, job_id)).get("status") == status

    await eventually(has, within=40)
    return await shown(client, job_id)


async def do(client: ClientSession, job_id: str, what: str) -> tuple[int, dict[str, Any]]:
    async with client.post(f"/api/v1/jobs/{job_id}/{what}") as response:
        return response.status, await response.json()


async def test_a_pending_job_that_is_cancelled_never_runs_and_its_key_goes_on(
    ready: Settings, unique: Callable[[str], str]
) -> None:
    house, key = House(), unique("key")
    first, second = unique("first"), unique("second")
    async with served(ready) as client:
        await post(client, "/api/v1/jobs", job(first, key))
        await post(client, "/api/v1/jobs", job(second, key))
        async with worker(ready, ["history"]):
            await becomes(client, first, "pending")
            assert (await do(client, first, "cancel"))[0] == 202
            assert (await shown(client, first))["status"] == "pending"
        async with house.open(ready):
            cancelled = await becomes(client, first, "cancelled")
            await becomes(client, second, "completed")
            again = await do(client, first, "cancel")

    assert house.ran == [second]
    assert (cancelled["attempts"], cancelled["finished_at"] is None) == ([], False)
    assert (again[0], again[1]["job_status"]) == (409, "cancelled")


async def test_a_running_job_is_cancelled_and_its_key_goes_on(ready: Settings, unique: Callable[[str], str]) -> None:
    house, key = House(), unique("key")
    first, second = unique("first"), unique("second")
    async with served(ready) as client, house.open(ready):
        await post(client, "/api/v1/jobs", job(first, key, "waits"))
        await post(client, "/api/v1/jobs", job(second, key))
        await asyncio.wait_for(house.begun.wait(), 30)
        await becomes(client, first, "processing")
        assert (await do(client, first, "cancel"))[0] == 202
        cancelled = await becomes(client, first, "cancelled")
        await becomes(client, second, "completed")
        async with client.get(f"/api/v1/dlt?key={key}") as response:
            letters = await response.json()

    assert house.ran == [first, second]
    assert [attempt["outcome"] for attempt in cancelled["attempts"]] == ["cancelled"]
    assert letters["entries"] == []


async def test_a_job_that_waits_in_a_tier_and_one_that_follows_it_end_in_their_turn(
    ready: Settings, unique: Callable[[str], str]
) -> None:
    house, key = House(), unique("key")
    first, second, third = (unique(name) for name in ("first", "second", "third"))
    async with served(ready) as client, house.open(ready):
        await post(client, "/api/v1/jobs", job(first, key, "fails"))
        waiting = await becomes(client, first, "retrying")
        for each in (second, third):
            await post(client, "/api/v1/jobs", job(each, key))
        retry = await do(client, first, "retry")
        for each in (first, second):
            await becomes(client, each, "retrying" if each == first else "pending")
            assert (await do(client, each, "cancel"))[0] == 202
        cancelled = [await becomes(client, each, "cancelled") for each in (first, second)]
        last = await becomes(client, third, "completed")

    assert house.ran == [first, third]
    assert (retry[0], retry[1]["due_at"]) == (409, waiting["due_at"])
    assert waiting["due_at"] <= cancelled[0]["finished_at"] <= cancelled[1]["finished_at"] <= last["finished_at"]
    assert [attempt["outcome"] for attempt in cancelled[0]["attempts"]] == ["retrying"]


async def test_a_dead_job_is_found_looked_at_and_retried(ready: Settings, unique: Callable[[str], str]) -> None:
    house, key, first = House(), unique("key"), unique("first")
    async with served(ready) as client, house.open(ready):
        await post(client, "/api/v1/jobs", job(first, key, "fails"))
        await becomes(client, first, "dead")
        async with client.get(f"/api/v1/dlt?key={key}&tenant=steppe&state=open") as response:
            (letter,) = (await response.json())["entries"]
        async with client.get(f"/api/v1/dlt/{letter['ref']}") as response:
            detail = await response.json()
        async with client.get(f"/api/v1/lanes/steppe/{key}?group={GROUP}") as response:
            (lane,) = (await response.json())["groups"]
        assert (await do(client, first, "retry"))[0] == 202
        done = await becomes(client, first, "completed")
        async with client.get("/api/v1/queues") as response:
            queues = {one["group"]: one for one in (await response.json())["queues"]}
        async with client.get("/api/v1/topics") as response:
            topics = {one["name"]: one for one in (await response.json())["topics"]}
        async with client.get("/api/v1/lanes/steppe/x?group=nobody") as response:
            missing = response.status

    assert detail["payload"]["name"] == "fails"
    assert (detail["attempts"], detail["exception"]) == (2, "builtins.ValueError")
    assert [one["ref"] for one in lane["dead_letters"]] == [letter["ref"]]
    assert [(one["replay"], one["outcome"]) for one in done["attempts"]] == [
        (1, "completed"),
        (0, "dead"),
        (0, "retrying"),
    ]
    assert (queues[GROUP]["problem"], queues[GROUP]["source"], missing) == (None, "jobs.emails", 404)
    assert queues[GROUP]["published_per_second"] is not None
    assert (topics["jobs.emails"]["retention_ms"], topics["job-control"]["cleanup"]) == (
        14 * 86_400_000,
        "compact,delete",
    )
    assert topics["jobs.emails"]["records"] == sum(topics["jobs.emails"]["ends"]) - sum(topics["jobs.emails"]["starts"])
    assert topics["jobs.emails.emails.dlt"]["retention_ms"] is None


async def event_of(response: ClientResponse) -> dict[str, Any]:
    """The next event of a stream, or the next id."""
    found: dict[str, Any] = {}
    async with asyncio.timeout(30):
        while line := (await response.content.readline()).decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            found[name] = value
    return found


async def test_a_stream_goes_on_at_another_gateway_where_it_broke_off(
    ready: Settings, unique: Callable[[str], str]
) -> None:
    house, tenant = House(), unique("tenant")
    jobs = [unique("job") for _ in range(6)]
    async with served(ready) as one, served(on_a_free_port(ready)) as other, house.open(ready):
        async with one.get(f"/api/v1/stream?tenant={tenant}") as stream:
            await event_of(stream)
            await post(one, "/api/v1/jobs", job(jobs[0], "a", tenant=tenant))
            told = [await event_of(stream)]
        for each in jobs[1:]:
            await post(one, "/api/v1/jobs", job(each, "a", tenant=tenant))
        await post(other, "/api/v1/events", EVENT | {"tenant": tenant, "data": HELD | {"reservation_id": tenant}})
        await becomes(one, jobs[-1], "completed")
        headers = {"Last-Event-ID": told[0]["id"]}
        async with other.get(f"/api/v1/stream?tenant={tenant}", headers=headers) as stream:
            last = unique("last")
            await post(one, "/api/v1/jobs", job(last, "a", tenant=tenant))
            while not told[-1].get("data", "").startswith(f'{{"id":"{last}"') or '"completed"' not in told[-1]["data"]:
                told.append(await event_of(stream))
        async with other.ws_connect(f"/api/v1/ws?job={jobs[2]}&last_event_id={told[0]['id']}") as socket:
            again = [await socket.receive_json(timeout=30) for _ in range(2)]

    seen = [json.loads(each["data"]) for each in told if "data" in each]
    steps = [(each["id"], each["status"]) for each in seen if "status" in each]
    assert len(steps) == len(set(steps)), "nothing twice"
    for each in (*jobs, last):
        assert [status for job_id, status in steps if job_id == each and status != "processing"] == [
            "pending",
            "completed",
        ]
    assert [each["type"] for each in seen if "data" in each] == ["reservation.held"]
    assert {each["tenant"] for each in seen} == {tenant}
    assert next(each["data"]["status"] for each in again if each["kind"] == "job") == "pending"


async def test_tickets_are_good_once_at_any_gateway(ready: Settings) -> None:
    async with served(ready) as one, served(on_a_free_port(ready)) as other:
        async with one.post("/api/v1/stream-tickets") as response:
            ticket = (await response.json())["ticket"]
        async with other.ws_connect(f"/api/v1/ws?ticket={ticket}") as socket:
            first = await socket.receive_json(timeout=30)
        async with one.get(f"/api/v1/stream?ticket={ticket}") as response:
            second = response.status

    assert (first["kind"], second) == ("beat", 401)

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from streams.control import order_of
from streams.gateway import cursors
from streams.gateway.access import Caller, Scope
from streams.gateway.joblist import whole_key
from streams.job import TransientError
from tests.gateway_doubles import Bench
from tests.unit.test_gateway_jobs import problem, stored_status

if TYPE_CHECKING:
    from aiohttp import web

    from streams.gateway.access import Identify

TIME = 1_700_000_000_000


class As:
    """Access that takes everybody for one caller."""

    def __init__(self, tenant: str | None, *scopes: str) -> None:
        self._caller = Caller(f"key:{tenant}", tenant, frozenset(scopes or Scope))

    def at(self, path: str, scope: str) -> Identify:
        return self._of

    async def _of(self, request: web.Request) -> Caller:
        return self._caller


@pytest.fixture
def bench() -> Bench:
    return Bench()


def store(bench: Bench, job_id: str, *, at: int = TIME, **changes: Any) -> None:
    tenant = changes.get("tenant", "steppe")
    fields = {"time": at, "key": f"{tenant}/user-1", "status": "pending", "attempt": 0, **changes}
    bench.history.store(stored_status(job_id).model_copy(update=fields))


async def ids(response: Any) -> list[str]:
    assert response.status == 200, await response.text()
    return [job["id"] for job in (await response.json())["jobs"]]


async def test_jobs_are_listed_newest_first_page_by_page_whatever_comes_meanwhile(bench: Bench) -> None:
    for number in range(5):
        store(bench, f"j{number}", at=TIME + number // 2)
    found, cursor = [], ""
    async with bench.client() as client:
        while cursor is not None:
            response = await client.get("/api/v1/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
            found.append(await ids(response))
            cursor = (await response.json())["cursor"]
            store(bench, f"later{len(found)}", at=TIME + 100)

    assert found == [["j4", "j3"], ["j2", "j1"], ["j0"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"tenant": "taiga"}, ["b"]),
        ({"status": "dead"}, ["c"]),
        ({"type": "notification.signin"}, ["d", "c", "b", "a"]),
        ({"queue": "other"}, []),
        ({"key": "steppe/user-9"}, ["d"]),
        ({"tenant": "steppe", "key": "user-9"}, ["d"]),
        ({"created_after": "2023-11-14T22:13:20.002Z"}, ["d", "c"]),
        ({"created_before": "2023-11-15T06:13:20.001+08:00"}, ["a"]),
    ],
)
async def test_a_list_is_of_what_was_asked_for(bench: Bench, query: dict[str, str], expected: list[str]) -> None:
    store(bench, "a")
    store(bench, "b", at=TIME + 1, tenant="taiga")
    store(bench, "c", at=TIME + 2, status="dead")
    store(bench, "d", at=TIME + 3, key="steppe/user-9")
    async with bench.client() as client:
        assert await ids(await client.get("/api/v1/jobs", params=query)) == expected


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"limit": "1001"}, "/limit"),
        ({"limit": "0"}, "/limit"),
        ({"status": "lost"}, "/status"),
        ({"tenant": "a/b"}, "/tenant"),
        ({"key": "a\0b"}, "/key"),
        ({"created_after": "yesterday"}, "/created_after"),
        ({"created_after": "2026-11-24T10:00:00"}, "/created_after"),
        ({"created_before": "0.5"}, "/created_before"),
        ({"sort": "id"}, "/sort"),
        ({"cursor": "!"}, "/cursor"),
        ({"cursor": "AAAA"}, "/cursor"),
        ({"cursor": "x" * 4_001}, "/cursor"),
    ],
)
async def test_a_query_that_does_not_fit_is_refused_by_its_place(
    bench: Bench, query: dict[str, str], pointer: str
) -> None:
    async with bench.client() as client:
        found = await problem(await client.get("/api/v1/jobs", params=query), 400, "invalid-request")

    assert [error["pointer"] for error in found["errors"]] == [pointer]


async def test_a_cursor_fits_only_the_list_it_came_from(bench: Bench) -> None:
    for number in range(2):
        store(bench, f"j{number}")
    async with bench.client() as client:
        cursor = (await (await client.get("/api/v1/jobs", params={"limit": 1})).json())["cursor"]
        other = await client.get("/api/v1/jobs", params={"cursor": cursor, "type": "x"})
        await problem(other, 400, "invalid-request")


@pytest.mark.parametrize("place", [[1], ["1", "a"], [1, 2], {"a": 1}, None, [1, "a", 2]])
async def test_a_made_up_place_is_refused(bench: Bench, place: object) -> None:
    meant = dict.fromkeys(("tenant", "type", "queue", "status", "key", "created_after", "created_before"))
    async with bench.client() as client:
        cursor = cursors.encode(place, meant)
        await problem(await client.get("/api/v1/jobs", params={"cursor": cursor}), 400, "invalid-request")


def test_what_is_not_base64_of_json_is_no_cursor() -> None:
    for text in ("é", "a", base64.urlsafe_b64encode(b"12345678\xff").decode()):
        with pytest.raises(Exception, match="invalid-request"):
            cursors.decode(text, {})


def test_a_key_is_found_with_or_without_its_tenant() -> None:
    assert whole_key("acme", "u-1") == whole_key("acme", "acme/u-1") == "acme/u-1"
    assert whole_key(None, "acme/u-1") == "acme/u-1"
    assert whole_key("acme", None) is None


async def test_callers_of_a_tenant_see_and_drive_only_their_own(bench: Bench) -> None:
    store(bench, "mine", tenant="taiga")
    store(bench, "theirs")
    bench.changes = {"access": As("taiga")}
    async with bench.client() as client:
        assert await ids(await client.get("/api/v1/jobs")) == ["mine"]
        assert await ids(await client.get("/api/v1/jobs", params={"key": "steppe/user-1"})) == []
        await problem(await client.get("/api/v1/jobs", params={"tenant": "steppe"}), 403, "forbidden")
        await problem(await client.get("/api/v1/jobs/theirs"), 404, "not-found")
        await problem(await client.post("/api/v1/jobs/theirs/cancel"), 404, "not-found")

    assert (bench.log.messages, bench.audit.acts) == ([], [])


async def test_two_tenants_may_choose_one_id_and_neither_sees_the_others_job(bench: Bench) -> None:
    store(bench, "same", tenant="taiga")
    store(bench, "same", status="completed", attempt=1, at=TIME + 5)
    bench.changes = {"access": As("taiga")}
    async with bench.client() as client:
        found = await (await client.get("/api/v1/jobs/same")).json()
        cancelled = await client.post("/api/v1/jobs/same/cancel")

    assert (found["tenant"], found["status"], cancelled.status) == ("taiga", "pending", 202)
    assert [message.key for message in bench.log.of("job-control")] == [b"taiga/same"]


async def test_a_scope_that_is_missing_is_named(bench: Bench) -> None:
    bench.changes = {"access": As("taiga", "jobs:read")}
    async with bench.client() as client:
        await ids(await client.get("/api/v1/jobs"))
        found = await problem(await client.post("/api/v1/jobs/x/cancel"), 403, "forbidden")

    assert found["scope"] == "jobs:write"


async def test_a_job_is_shown_with_its_attempts(bench: Bench) -> None:
    store(bench, "j1")
    store(bench, "j1", status="retrying", attempt=1, at=TIME + 20, started=TIME + 10, error="boom", due=TIME + 99)
    async with bench.client() as client:
        found = await (await client.get("/api/v1/jobs/j1")).json()

    assert found["due_at"] == "2023-11-14T22:13:20.099Z"
    assert found["attempts"] == [
        {
            "number": 1,
            "replay": 0,
            "started_at": "2023-11-14T22:13:20.010Z",
            "ended_at": "2023-11-14T22:13:20.020Z",
            "outcome": "retrying",
            "error": "boom",
            "worker": None,
        }
    ]


@pytest.mark.parametrize("state", ["pending", "processing", "retrying"])
async def test_a_job_that_has_not_ended_can_be_cancelled_which_is_written_down_first(bench: Bench, state: str) -> None:
    store(bench, "j1", status=state, attempt=2, replays=1)
    async with bench.client() as client:
        response = await client.post("/api/v1/jobs/j1/cancel", headers={"X-Request-Id": "r-1"})
        found = await response.json()

    assert (response.status, response.headers["Location"]) == (202, "/api/v1/jobs/j1")
    assert (found["id"], found["status"]) == ("j1", state)
    (message,) = bench.log.of("job-control")
    order = order_of(message.value)
    assert order is not None
    assert (message.key, order.tenant, order.job_id, order.replays) == (b"steppe/j1", "steppe", "j1", 1)
    (act,) = bench.audit.acts
    assert (act.who, act.what, act.target, act.tenant, act.request_id) == (
        "anybody",
        "jobs.cancel",
        "jobs/j1",
        "steppe",
        "r-1",
    )
    assert (act.source, act.before["status"]) == ("127.0.0.1", state)


@pytest.mark.parametrize("state", ["completed", "dead", "failed", "cancelled"])
async def test_a_job_that_has_ended_cannot_be_cancelled(bench: Bench, state: str) -> None:
    store(bench, "j1", status=state, attempt=1)
    async with bench.client() as client:
        found = await problem(await client.post("/api/v1/jobs/j1/cancel"), 409, "wrong-state")

    assert found["status"] == 409
    assert found["job_status"] == state
    assert (bench.log.messages, bench.audit.acts) == ([], [])


async def test_an_act_that_cannot_be_written_down_is_not_done(bench: Bench) -> None:
    store(bench, "j1")
    bench.audit.away = TransientError("the trail is away")
    async with bench.client() as client:
        await problem(await client.post("/api/v1/jobs/j1/cancel"), 503, "unavailable")

    assert bench.log.messages == []


@pytest.mark.parametrize("trouble", ["fault", "hang"])
async def test_an_order_that_is_not_acknowledged_is_said(bench: Bench, trouble: str) -> None:
    store(bench, "j1")
    if trouble == "hang":
        bench.log.hangs.add("job-control")
    else:
        bench.log.faults["job-control"] = TransientError("away")
    async with bench.client() as client:
        await problem(await client.post("/api/v1/jobs/j1/cancel"), 503, "unavailable")

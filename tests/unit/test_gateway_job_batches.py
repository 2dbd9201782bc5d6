"""``POST /api/v1/jobs:batch``: each job is told of, and a key's order is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.event import from_headers
from streams.gateway.options import JobRequest
from streams.job import TransientError
from tests.gateway_doubles import JOB, PAYLOAD, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def job(number: int, user: str = "user-1", **changes: Any) -> dict[str, Any]:
    return JOB | {"id": f"j{number}", "payload": PAYLOAD | {"user_id": user}} | changes


async def posted(bench: Bench, jobs: Any) -> tuple[int, Any]:
    async with bench.client() as client, client.post("/api/v1/jobs:batch", json={"jobs": jobs}) as response:
        return response.status, await response.json(content_type=None)


async def test_a_batch_is_stored_in_its_order_and_each_job_is_told_its_place(bench: Bench) -> None:
    status, found = await posted(bench, [job(number) for number in range(200)])

    assert (status, found["accepted"], found["refused"]) == (202, 200, 0)
    assert [each["id"] for each in found["results"]] == [f"j{number}" for number in range(200)]
    assert [each["offset"] for each in found["results"]] == list(range(200))
    assert found["results"][7]["location"] == "/api/v1/jobs/j7"
    stored = [from_headers(record.headers)["id"] for record in bench.log.of("jobs.emails")]
    assert stored == [f"j{number}" for number in range(200)]
    assert {each.status for each in await bench.payloads("job-status")} == {"pending"}


async def test_a_jobs_problem_points_into_the_batch_and_its_key_goes_no_further(bench: Bench) -> None:
    jobs = [
        job(0),
        job(1, payload=PAYLOAD | {"email": "nobody"}),
        job(2),
        job(3, "user-2"),
        job(4, "user-2", type="nft.mint", key="user-2"),
        job(5, "user-2"),
        job(6, "user-3", delay=5),
        job(7, "user-4", tenant="a/b"),
        "no job",
    ]
    status, found = await posted(bench, jobs)

    assert (status, [each["status"] for each in found["results"]]) == (
        207,
        [202, 400, 424, 202, 400, 424, 400, 400, 400],
    )
    problems = [each["problem"] for each in found["results"] if "problem" in each]
    assert [[error["pointer"] for error in each.get("errors", [])] for each in problems] == [
        ["/jobs/1/payload/email"],
        [],
        ["/jobs/4/type"],
        [],
        ["/jobs/6/delay"],
        ["/jobs/7/tenant"],
        ["/jobs/8"],
    ]
    assert [from_headers(record.headers)["id"] for record in bench.log.of("jobs.emails")] == ["j0", "j3"]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [([], 400, ""), ({"jobs": {}}, 400, "/jobs"), ({"jobs": [], "atomic": True}, 400, "/atomic")],
)
async def test_what_is_no_batch_is_refused_as_a_whole(bench: Bench, body: Any, status: int, pointer: str) -> None:
    async with bench.client() as client, client.post("/api/v1/jobs:batch", json=body) as response:
        found = await response.json(content_type=None)

    assert (response.status, [error["pointer"] for error in found["errors"]]) == (status, [pointer])


async def test_more_than_a_thousand_jobs_are_refused(bench: Bench) -> None:
    assert (await posted(bench, [0] * 1_001))[0] == 413
    assert bench.log.messages == []


async def test_a_batch_above_the_bound_is_refused_before_anything_is_written(bench: Bench) -> None:
    bench.changes = {"unacknowledged": 9}
    assert (await posted(bench, [job(number) for number in range(5)]))[0] == 503
    bench.changes = {"unacknowledged_bytes": 2_000}
    assert (await posted(bench, [job(number) for number in range(5)]))[0] == 503
    assert bench.log.messages == []
    assert (await posted(bench, [job(0)]))[0] == 202


async def test_jobs_the_broker_does_not_acknowledge_are_told_apart(bench: Bench) -> None:
    bench.log.refuse_next = TransientError("away")
    status, found = await posted(bench, [job(0), job(1, "user-2")])

    assert (status, [each["status"] for each in found["results"]]) == (207, [503, 202])
    assert found["results"][0]["problem"]["job_id"] == "j0"


async def test_jobs_that_were_not_taken_do_not_stay_pending(bench: Bench) -> None:
    bench.log.faults["jobs.emails"] = TransientError("away")
    async with bench.client() as client:
        jobs = {"jobs": [job(0), job(1, "user-2")]}
        response = await client.post("/api/v1/jobs:batch", json=jobs)
        assert (response.status, response.headers["Retry-After"]) == (503, "1")

    statuses = await bench.payloads("job-status")
    assert [(each.job_id, each.status) for each in statuses] == [
        ("j0", "pending"),
        ("j1", "pending"),
        ("j0", "failed"),
        ("j1", "failed"),
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=10,
)
names = st.one_of(st.sampled_from([*JobRequest.model_fields]), st.text(max_size=20))
jobs = st.one_of(values, st.dictionaries(names, values, max_size=5).map(lambda change: JOB | change))


@settings(max_examples=20)
@given(sent=st.lists(st.lists(jobs, max_size=4), min_size=1, max_size=6))
async def test_no_batch_makes_an_error_of_ours(sent: list[list[Any]]) -> None:
    async with Bench().client() as client:
        for batch in sent:
            async with client.post("/api/v1/jobs:batch", json={"jobs": batch}) as response:
                found = await response.json()
            assert response.status in {202, 207}, found
            assert [each["status"] in {202, 400, 403, 413, 424} for each in found["results"]] == [True] * len(batch)

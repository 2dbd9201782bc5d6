"""What the history is told of a job: which steps, in which order, and its result whatever a handler returns."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.job_status.model import CONTRACT, Status
from streams.core.commit_map import CommitMap
from streams.core.deadletter import Failure
from streams.core.headers import SOURCE
from streams.core.track import SHELF_SOURCE, Entry, Track
from streams.engine.tracker import Tracker
from streams.history import merged, row
from tests.integration.engine_kit import Order
from tests.simulation.broker import Rec

CONTEXT = SimpleNamespace(type="x")
FAILURE = Failure(
    topic="jobs.q",
    partition=0,
    offset=7,
    timestamp=0,
    group="q",
    handler="x",
    attempts=1,
    time=0,
    exception="E",
    message="boom",
    stack=str,
    classification="exhausted",
    version="1",
)


class Told:
    """Stands for codec and outbox: keeps the statuses."""

    def __init__(self) -> None:
        self.makes: list[Any] = []
        self.size = 0
        self.statuses: list[Status] = []
        self.keys: list[bytes | None] = []

    def put(self, make: Any, size: int) -> None:
        self.makes.append(make)
        self.size += size

    def weigh(self, size: int) -> None:
        self.size += size

    async def encode_fields(self, contract: Any, fields: dict[str, Any]) -> bytes:
        assert set(fields) == {field["name"] for field in json.loads(contract.newest)["fields"]}
        self.statuses.append(Status.model_validate(fields))
        return b""

    async def write(self) -> list[str]:
        """The next turn of the outbox; the statuses it wrote."""
        makes, self.makes, self.statuses = self.makes, [], []
        for make in makes:
            self.keys.append((await make()).key)
        return [status.status for status in self.statuses]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def tracker(told: Told) -> Tracker:
    return Tracker(told, told, CONTRACT, topic="job-status", queue="q", worker="w")


def entry(*headers: tuple[str, bytes], key: bytes = b"t/a") -> Entry:
    record = Rec("jobs.q", 0, 7, 0, key, b"", (("ce_id", b"j-1"), *headers))
    return Entry(Track(SHELF_SOURCE, 0, CommitMap()), 7, key, SOURCE, record)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, None),
        ({"mail": "sent"}, '{"mail": "sent"}'),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, '{"at": "2026-01-01 00:00:00+00:00"}'),
        ({1}, '"{1}"'),
        ({(1, 2): 3}, '"{(1, 2): 3}"'),
    ],
)
async def test_a_result_that_json_cannot_hold_is_kept_as_text(told, tracker, result, text) -> None:
    tracker.completed(entry(), CONTEXT, result)
    await told.write()
    assert told.statuses[0].result == text
    assert text is None or json.loads(text) is not None


async def test_a_run_over_before_it_was_told_of_is_one_record_and_the_same_row(told, tracker) -> None:
    job = entry()
    tracker.processing(job, CONTEXT, Order(number=1))
    tracker.completed(job, CONTEXT, {"a": 1})
    assert await told.write() == ["completed"]
    (at_once,) = merged(map(row, told.statuses))

    tracker.processing(job, CONTEXT, Order(number=1))
    assert await told.write() == ["processing"]
    begun = told.statuses
    tracker.completed(job, CONTEXT, {"a": 1})
    assert await told.write() == ["completed"]
    (in_two,) = merged(map(row, begun + told.statuses))

    assert told.statuses[0].started is None
    assert [attempt.outcome for attempt in at_once.attempts] == [attempt.outcome for attempt in in_two.attempts]
    times = ("created_at", "started_at", "updated_at", "finished_at", "steps")
    assert all(getattr(at_once, name) is not None and getattr(in_two, name) is not None for name in times)
    assert {**_facts(at_once), **dict.fromkeys(times)} == {**_facts(in_two), **dict.fromkeys(times)}
    assert (at_once.attempt, at_once.payload) == (1, '{"number":1,"name":"x"}')


async def test_a_failure_told_at_once_keeps_its_attempt_and_its_payload(told, tracker) -> None:
    job = entry()
    tracker.processing(job, CONTEXT, Order(number=1))
    job.attempts = 1
    tracker.moved(job, FAILURE, due=12.5)
    assert await told.write() == ["retrying"]
    (status,) = told.statuses
    assert (status.attempt, status.error, status.payload) == (1, "E: boom", '{"number":1,"name":"x"}')
    assert status.started is not None
    assert status.due == 12_500


async def test_a_cancelled_job_is_told_with_the_attempt_it_ended(told, tracker) -> None:
    waiting, running = entry(), entry()
    waiting.attempts = 1
    tracker.cancelled(waiting, CONTEXT, ran=False)
    tracker.processing(running, CONTEXT, Order(number=1))
    tracker.cancelled(running, CONTEXT, ran=True)
    assert await told.write() == ["cancelled", "cancelled"]
    assert [(status.attempt, status.started is None) for status in told.statuses] == [(1, True), (1, False)]


async def test_runs_that_wait_in_place_are_told_of_in_order_with_their_attempts(told, tracker) -> None:
    job = entry()
    tracker.processing(job, CONTEXT, Order(number=1))
    job.attempts = 1
    tracker.processing(job, CONTEXT, Order(number=1))
    tracker.completed(job, CONTEXT, None)
    assert await told.write() == ["processing", "completed"]
    assert [status.attempt for status in told.statuses] == [1, 2]


async def test_numbers_in_a_strangers_headers_do_not_make_a_status_unreadable(told, tracker) -> None:
    huge = str(10**17).encode()
    names = ("kl-replays", "kl-origin-partition", "kl-origin-offset")
    tracker.completed(entry(("kl-origin-topic", b"x"), *((name, huge) for name in names)), CONTEXT, None)
    assert await told.write() == ["completed"]


async def test_what_waits_to_be_written_is_weighed_with_its_texts(told, tracker) -> None:
    job = entry()
    tracker.processing(job, CONTEXT, Order(number=1, name="n" * 5_000))
    tracker.completed(job, CONTEXT, "r" * 7_000)
    assert 12_000 < told.size < 15_000


def _facts(found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__slots__}


async def test_the_statuses_of_two_tenants_jobs_of_one_id_do_not_compact_each_other_away(told, tracker) -> None:
    tracker.completed(entry(), CONTEXT, None)
    tracker.completed(entry(key=b"u/a"), CONTEXT, None)
    tracker.completed(entry(key=b"u/b"), CONTEXT, None)
    await told.write()
    assert told.keys == [b"t/j-1", b"u/j-1", b"u/j-1"]

from __future__ import annotations

import json
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.job_status.model import Status
from streams.history import MOST_STEPS, JobRow, merge, merged, row, sequence

TIME = 1_700_000_000_000


def status(state: str = "pending", *, attempt: int = 0, **changes: object) -> Status:
    fields = {
        "job_id": "j1",
        "type": "notification.signin",
        "queue": "emails",
        "tenant": "steppe",
        "key": "steppe/user-1",
        "status": state,
        "attempt": attempt,
        "replays": 0,
        "time": TIME,
        "topic": "jobs.emails",
        "partition": 3,
        "offset": 7,
    }
    return Status.model_validate(fields | changes)


LIFE = (
    status(payload='{"a": 1}', partition=-1, offset=-1),
    status("processing", attempt=1, time=TIME + 10, payload='{"a": 1}', worker="w1"),
    status("retrying", attempt=1, time=TIME + 20, error="boom", worker="w1"),
    status("processing", attempt=2, time=TIME + 30, worker="w2"),
    status("dead", attempt=2, time=TIME + 40, error="boom", worker="w2"),
    status("processing", attempt=1, replays=1, time=TIME + 50, worker="w1"),
    status("completed", attempt=1, replays=1, time=TIME + 60, result="[1]", worker="w1"),
)


def test_the_last_step_decides_and_the_first_facts_stay() -> None:
    (found,) = merged(map(row, LIFE))

    assert (found.status, found.attempt, found.replays, found.result) == ("completed", 1, 1, "[1]")
    assert (found.error, found.worker) == (None, "w1")
    assert (found.payload, found.partition, found.offset) == ('{"a": 1}', 3, 7)
    assert (found.created_at, found.started_at) == (TIME, TIME + 10)
    assert (found.updated_at, found.finished_at) == (TIME + 60, TIME + 60)


def test_attempts_tell_of_each_run_the_latest_first() -> None:
    (found,) = merged(map(row, LIFE))

    assert [tuple(attempt) for attempt in found.attempts] == [
        (1, 1, TIME + 50, TIME + 60, "completed", None, "w1"),
        (2, 0, TIME + 30, TIME + 40, "dead", "boom", "w2"),
        (1, 0, TIME + 10, TIME + 20, "retrying", "boom", "w1"),
    ]


def test_a_job_cancelled_while_it_waits_leaves_its_last_attempt_as_it_was() -> None:
    waiting, running = (status(state, attempt=1, time=TIME + 20) for state in ("retrying", "processing"))
    cancelled = status("cancelled", attempt=1, time=TIME + 30)

    assert [attempt.outcome for attempt in merged(map(row, (waiting, cancelled)))[0].attempts] == ["retrying"]
    assert [attempt.outcome for attempt in merged(map(row, (running, cancelled)))[0].attempts] == ["cancelled"]
    assert merged(map(row, (LIFE[0], status("cancelled", time=TIME + 5))))[0].attempts == []


def test_of_many_steps_the_latest_are_kept() -> None:
    runs = [status("completed", attempt=number, time=TIME + number, started=TIME) for number in range(1, 140)]

    (found,) = merged(map(row, reversed(runs)))

    assert [attempt.number for attempt in found.attempts] == list(range(139, 39, -1))
    assert len(found.attempts) == MOST_STEPS


@given(st.lists(st.sampled_from(LIFE), min_size=1).map(lambda more: [*LIFE, *more]).flatmap(st.permutations))
def test_order_and_repetition_of_statuses_do_not_matter(statuses: list[Status]) -> None:
    assert merged(map(row, statuses)) == merged(map(row, LIFE))


@given(st.permutations(LIFE), st.integers(1, len(LIFE) - 1))
def test_statuses_may_be_merged_in_groups(statuses: list[Status], cut: int) -> None:
    def total(part: list[Status]) -> JobRow:
        return reduce(merge, map(row, part))

    assert merge(total(statuses[:cut]), total(statuses[cut:])) == total(list(LIFE))


def test_a_replay_starts_a_job_again() -> None:
    replayed = status("pending", replays=1, time=TIME + 100)

    (found,) = merged([row(LIFE[4]), row(replayed)])

    assert (found.status, found.finished_at) == ("pending", None)


def test_many_attempts_never_reach_the_next_replay() -> None:
    assert sequence("cancelled", 10_000_000, 0) < sequence("pending", 0, 1)


def test_rows_of_several_jobs_stay_apart() -> None:
    found = merged(
        [
            row(status(job_id="a")),
            row(status(job_id="b")),
            row(status("completed", job_id="a")),
            row(status("dead", job_id="a", tenant="taiga", attempt=9)),
        ]
    )

    assert {each.identity: each.status for each in found} == {
        ("a", "steppe"): "completed",
        ("b", "steppe"): "pending",
        ("a", "taiga"): "dead",
    }


@pytest.mark.parametrize(
    ("key", "entity"), [("steppe/user-1", "user-1"), ("steppe/a/b", "a/b"), ("bare", "bare"), (None, None)]
)
def test_the_entity_is_the_key_without_its_tenant(key: str | None, entity: str | None) -> None:
    assert row(status(key=key)).entity == entity


@pytest.mark.parametrize("text", ['"a\\u0000b"', '{"k\\ud800": ["\\udc00"]}', "NaN", "[Infinity]", "not json"])
def test_what_postgresql_cannot_hold_as_json_is_replaced(text: str) -> None:
    cleaned = row(status(payload=text)).payload

    assert cleaned is not None
    value = json.dumps(json.loads(cleaned), ensure_ascii=False)
    assert "\\u0000" not in value
    assert value.encode()


def test_a_real_pair_of_surrogates_survives() -> None:
    assert json.loads(row(status(result='"\\ud83d\\ude00"')).result or "") == "😀"


def test_text_loses_nul_only() -> None:
    assert row(status("failed", error="bad\x00thing")).error == "bad\ufffdthing"

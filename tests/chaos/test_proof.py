"""The proof finds what it is for: each promise that a run may break is broken here once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.proof import ONCE, PLAIN, SLACK, Effects, Proof, Window, prove
from tests.chaos.scenario import Outcome

if TYPE_CHECKING:
    from pathlib import Path

DEAD = 37  # a number that fails for ever
KILL = Window(100.0, 100.1, frozenset({1}))


def job(number: int, key: str = "a", **changes: Any) -> dict[str, Any]:
    return {"id": f"j{number}", "number": number, "key": key, "partition": 0, "offset": number} | changes


def effects(*made: tuple[int, float], worker: int = 1, kind: str = PLAIN) -> list[dict[str, Any]]:
    return [
        {"id": f"j{number}", "at": at, "worker": worker, "type": kind, "place": place}
        for place, (number, at) in enumerate(made)
    ]


def proof(jobs: list[Any], rows: list[Any], *faults: Window, dead: tuple[str, ...] = (), behind: int = 0) -> Proof:
    return prove(jobs, rows, dead, faults, behind=behind, codes=[0])


def test_a_run_that_kept_its_promises_has_no_findings() -> None:
    jobs = [job(1), job(2), job(DEAD)]
    assert proof(jobs, effects((1, 1.0), (2, 2.0)), dead=(f"j{DEAD}",)).findings == []


@pytest.mark.parametrize(
    ("found", "jobs", "rows"),
    [
        ("lost", [job(1), job(2)], effects((1, 1.0))),
        ("lost", [job(1), job(DEAD)], effects((1, 1.0))),
        ("took effect before", [job(1), job(2)], effects((2, 1.0), (1, 2.0))),
        ("ran twice without a fault", [job(1)], effects((1, 1.0), (1, 2.0))),
        ("once jobs ran twice", [job(1)], effects((1, 99.9), (1, 102.0), kind=ONCE)),
        ("effects of what nobody published", [job(1)], effects((1, 1.0), (2, 2.0))),
        ("effects of what nobody published", [job(1), job(DEAD)], effects((1, 1.0), (DEAD, 2.0))),
        ("without a single record", [], []),
    ],
)
def test_a_broken_promise_is_found(found: str, jobs: list[Any], rows: list[Any]) -> None:
    assert any(found in finding for finding in proof(jobs, rows, KILL).findings)


def test_what_is_not_committed_at_the_end_is_found() -> None:
    assert proof([job(1)], effects((1, 1.0)), behind=1).findings == ["1 records not committed by the drained group"]


def test_a_job_may_run_again_only_if_it_ended_right_before_its_worker_was_hit() -> None:
    assert proof([job(1)], effects((1, 99.9), (1, 102.0)), KILL).unexplained == []
    assert proof([job(1)], effects((1, 99.9 - SLACK), (1, 102.0)), KILL).unexplained == ["j1"]
    assert proof([job(1)], effects((1, 99.9), (1, 102.0), worker=2), KILL).unexplained == ["j1"]


def test_the_oldest_duplicate_is_told_with_its_age() -> None:
    assert proof([job(1)], effects((1, 99.75), (1, 102.0)), KILL).oldest == pytest.approx(0.25)


def test_an_effect_that_a_zombie_made_again_is_as_old_as_the_zombies_fault() -> None:
    owners, zombies = effects((1, 50.0), worker=2), effects((1, 100.05))
    found = proof([job(1)], owners + zombies, KILL, Window(900.0, 901.0, frozenset({2})))
    assert (found.unexplained, found.oldest) == ([], 0.0)


def test_what_got_no_answer_is_neither_lost_nor_out_of_order() -> None:
    jobs = [job(1), job(2, offset=None), job(3)]
    assert proof(jobs, effects((2, 1.0), (1, 2.0), (3, 3.0))).findings == []
    assert proof(jobs, effects((1, 2.0), (3, 3.0))).findings == []


def test_a_fault_that_was_never_seen_to_hit_proves_nothing() -> None:
    kept = proof([job(1)], effects((1, 1.0)))
    assert Outcome("kill -9, 3 times", kept, seen=0).findings == ["the fault was never seen to hit"]
    assert Outcome("kill -9, 3 times", kept, seen=3).findings == []


def test_the_ledgers_file_is_read_as_it_grows_and_only_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"note": "effect", "id": "j1"}\n{"note": "failure", "id": "j2"}\n{"note": "eff')
    found = Effects(path)
    found.refresh()
    assert [(row["id"], row["place"]) for row in found.rows] == [("j1", 0)]
    with path.open("a") as file:
        file.write('ect", "id": "j3"}\n')
    found.refresh()
    assert [(row["id"], row["place"]) for row in found.rows] == [("j1", 0), ("j3", 1)]

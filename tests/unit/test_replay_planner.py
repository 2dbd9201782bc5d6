from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import headers as h
from streams.core.replay import Candidate, Planner, TokenBucket, Where, discard_headers, generation_of, replay_headers

P0, P1 = Where("jobs.a.a.dlt", 0), Where("jobs.a.a.dlt", 1)


def dead(offset: int, **changes: object) -> Candidate:
    base = Candidate(P0, offset, 0, b"t/k", held=False, state="open", wanted=True)
    return base._replace(**changes)


def planned(*candidates: Candidate, kind: str = "replay", limit: int | None = None) -> tuple[list[int], list[str]]:
    planner = Planner(kind)  # type: ignore[arg-type]  # a test's literal
    for candidate in candidates:
        planner.consider(candidate)
    plan = planner.plan(limit)
    return [offset for offsets in plan.offsets.values() for offset in offsets], [r.reason for r in plan.refusals]


def test_order_is_highest_generation_first_then_as_they_died() -> None:
    offsets, _ = planned(dead(9), dead(3, generation=1), dead(4), dead(7, generation=2), dead(5, generation=1))
    assert offsets == [7, 3, 5, 4, 9]


def test_partitions_are_planned_one_after_the_other() -> None:
    planner = Planner("replay")
    for candidate in (dead(4, where=P1), dead(2), dead(1, where=P1)):
        planner.consider(candidate)
    assert planner.plan().offsets == {P0: (2,), P1: (1, 4)}
    assert len(planner.plan()) == 3
    assert planner.plan(limit=2).offsets == {P0: (2,), P1: (1,)}


def test_only_open_ones_are_replayed_and_parked_ones_can_be_discarded() -> None:
    several = (
        dead(1),
        dead(2, state="parked"),
        dead(3, state="replayed"),
        dead(4, state="waiting"),
        dead(5, wanted=False),
    )
    assert planned(*several)[0] == [1]
    assert planned(*several, kind="discard")[0] == [1, 2]
    planner = Planner("replay")
    for candidate in several:
        planner.consider(candidate)
    assert planner.plan().passed_over == {"parked": 1, "replayed": 1, "waiting": 1}


def test_what_an_unfinished_operation_took_is_refused_with_its_name() -> None:
    offsets, reasons = planned(dead(1, operation="replay r-1"), dead(2))
    assert offsets == [2]
    assert reasons == ["it belongs to replay r-1, which has not finished: resume that with --replay-id"]


@pytest.mark.parametrize("ahead", [{"wanted": False}, {"state": "parked"}, {"operation": "replay r-9"}])
def test_a_held_key_is_not_replayed_over_an_earlier_dead_letter_that_stays(ahead: dict[str, object]) -> None:
    first, later = dead(4, held=True, **ahead), dead(6, held=True)
    offsets, reasons = planned(later, first, dead(7, held=True, key=b"t/other"))
    assert offsets == [7]
    assert "the key t/k is held and offset 4 died before it: replay or discard that first" in reasons
    assert planned(later, dead(4, held=True))[0] == [4, 6]
    assert planned(later, first._replace(held=False))[0][-1] == 6
    assert planned(later, first, kind="discard")[0][-1] == 6


def test_earlier_means_higher_generation_also_where_the_offset_is_later() -> None:
    offsets, reasons = planned(dead(4, held=True), dead(9, held=True, generation=1, wanted=False))
    assert offsets == []
    assert "offset 9 died before it" in reasons[0]


def test_a_copy_is_no_entry_and_is_freed_with_the_one_that_stands_for_it() -> None:
    planner = Planner("replay")
    for candidate in (dead(8, held=True), dead(5, held=True, twin=8), dead(3, held=False, twin=8)):
        planner.consider(candidate)
    plan = planner.plan()
    assert plan.offsets == {P0: (8,)}
    assert plan.twins == {P0: {8: (5,)}}


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans()), max_size=30),
    st.one_of(st.none(), st.integers(0, 30)),
    st.randoms(use_true_random=False),
)
def test_no_plan_overtakes_within_a_held_key(
    rows: list[tuple[int, int, bool, bool]], limit: int | None, random: object
) -> None:
    candidates = [
        dead(offset, key=b"t/%d" % key, generation=generation, wanted=wanted, held=held)
        for offset, (key, generation, wanted, held) in enumerate(rows)
    ]
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    taken, _ = planned(*shuffled, limit=limit)
    assert taken == planned(*candidates, limit=limit)[0]
    order = {candidate.offset: (-candidate.generation, candidate.offset) for candidate in candidates}
    assert taken == sorted(taken, key=order.__getitem__)
    for later in (c for c in candidates if c.held and c.offset in taken):
        ahead = [
            c.offset for c in candidates if c.held and c.key == later.key and order[c.offset] < order[later.offset]
        ]
        assert set(ahead) <= set(taken)


def test_a_replay_starts_anew_one_generation_up_and_keeps_the_origin() -> None:
    users = [("ce_id", b"1"), ("x", b"a"), ("x", b"b")]
    mine = [(h.LEVEL, b"1.dlt"), (h.ORIGIN_OFFSET, b"3"), (h.REPLAYS, b"1"), (h.STACK, b"..."), (h.MOVER, b"m")]
    made = replay_headers(
        [*users, *mine, ("kafka_exception-stacktrace", b"s"), (h.CLASSIFICATION, b"final")], P1, 17, "r-1"
    )
    assert made[:3] == users
    expected = {h.LEVEL: b"2.0.0", h.FROM: b"1.dlt@17", h.ATTEMPTS: b"0", h.REPLAYS: b"2", h.REPLAY_ID: b"r-1"}
    assert dict(made[3:]) == expected | {h.ORIGIN_OFFSET: b"3", h.ENTRY: b"jobs.a.a.dlt/1/17"}


def test_a_discard_carries_its_place_and_nothing_of_the_users() -> None:
    made = dict(discard_headers([("x", b"a"), (h.LEVEL, b"0.dlt"), (h.ORIGIN_OFFSET, b"3")], 5, "d-1"))
    expected = {h.LEVEL: b"1.0.0", h.FROM: b"0.dlt@5", h.REPLAY_ID: b"d-1", h.CONTROL: b"discard"}
    assert made == expected | {h.ORIGIN_OFFSET: b"3"}


def test_a_dead_letter_of_a_stranger_is_of_generation_zero() -> None:
    assert generation_of([]) == generation_of([(h.LEVEL, b"\xff")]) == generation_of([(h.LEVEL, b"source")]) == 0


@given(st.lists(st.floats(0, 2), min_size=1, max_size=40), st.floats(0.5, 50))
def test_the_bucket_never_lets_more_through_than_its_rate(gaps: list[float], rate: float) -> None:
    now, used = 0.0, []
    bucket = TokenBucket(rate, now)
    for gap in gaps:
        now += gap
        now += bucket.take(now)
        used.append(now)
    for first in range(len(used)):
        span = used[-1] - used[first]
        assert len(used) - first <= span * rate + 2 + 1e-6


def test_no_rate_is_no_limit() -> None:
    assert TokenBucket(0, 0.0).take(0.0) == 0.0

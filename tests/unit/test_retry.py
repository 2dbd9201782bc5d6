"""What becomes of a failed attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.retry import GiveUp, MoveOn, RetryPolicy, WaitInPlace, decide

POLICY = RetryPolicy(attempts=5, in_place=(0.1, 0.5), jitter=0)


@pytest.mark.parametrize(
    ("attempts", "decision"),
    [(1, WaitInPlace(0.1)), (2, WaitInPlace(0.5)), (3, MoveOn()), (4, MoveOn()), (5, GiveUp()), (6, GiveUp())],
)
def test_short_waits_come_first_then_the_tiers_then_the_end(attempts, decision) -> None:
    assert decide(POLICY, attempts, tiers=True, after=None, draw=0.5) == decision


def test_a_group_without_tiers_waits_its_longest_wait_in_place() -> None:
    assert decide(POLICY, 4, tiers=False, after=None, draw=0.5) == WaitInPlace(0.5)
    assert decide(RetryPolicy(jitter=0), 1, tiers=False, after=None, draw=0.5) == WaitInPlace(1.0)


def test_a_short_wait_asked_for_is_spent_in_place_and_a_long_one_in_a_tier() -> None:
    assert decide(POLICY, 3, tiers=True, after=0.3, draw=0.5) == WaitInPlace(0.3)
    assert decide(POLICY, 3, tiers=True, after=60, draw=0.5) == MoveOn(60)
    assert decide(POLICY, 3, tiers=False, after=60, draw=0.5) == WaitInPlace(60)
    assert decide(POLICY, 5, tiers=True, after=0.3, draw=0.5) == GiveUp()


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.floats(0.001, 100))
def test_jitter_spreads_a_wait_by_its_share_and_no_more(draw, jitter, wait) -> None:
    policy = RetryPolicy(in_place=(wait,), jitter=jitter)
    decision = decide(policy, 1, tiers=True, after=None, draw=draw)
    assert isinstance(decision, WaitInPlace)
    assert wait * (1 - jitter) * 0.999 <= decision.seconds <= wait * (1 + jitter) * 1.001


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"jitter": 2}, {"in_place": (-1,)}])
def test_a_policy_that_cannot_be_carried_out_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="retry:"):
        RetryPolicy(**wrong)

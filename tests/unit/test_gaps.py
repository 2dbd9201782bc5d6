"""Where reading begins when the commit and the log disagree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.core import commit_map
from streams.core.commit_map import Fence
from streams.core.gaps import Begin, Gap, begin, unfinished

FENCE = Fence(7, "me")


def text(offset: int, *finished: tuple[int, int]) -> str:
    return commit_map.encode(offset, finished, FENCE)[0]


def test_a_commit_within_the_log_is_where_reading_goes_on() -> None:
    metadata = text(5, (7, 9))
    assert begin((5, metadata), 0, 10, worked=True) == Begin(5, metadata)
    assert begin((5, metadata), 5, 9, worked=True) == Begin(5, metadata)
    assert begin((9, ""), 9, 9, worked=True) == Begin(9, "")


def test_an_empty_partition_that_was_never_committed_is_nothing_to_tell() -> None:
    assert begin(None, 0, 0, worked=False) == Begin(0, "")
    assert begin(None, 0, 0, worked=True) == Begin(0, "")


def test_a_new_group_begins_at_the_start_and_is_told_of() -> None:
    assert begin(None, 3, 10, worked=False) == Begin(3, "", Gap("new", None, 3))


def test_lost_commits_of_a_group_that_worked_begin_at_the_start_never_at_the_end() -> None:
    assert begin(None, 3, 10, worked=True) == Begin(3, "", Gap("missing", None, 3))


def test_lost_commits_are_told_of_even_where_the_log_has_run_empty() -> None:
    assert begin(None, 10, 10, worked=True) == Begin(10, "", Gap("missing", None, 10))


def test_a_commit_below_the_logs_start_counts_only_what_was_not_finished() -> None:
    found = begin((5, text(5, (7, 9), (11, 14))), 12, 20, worked=True)
    assert found.gap == Gap("expired", 5, 12, dropped=4), "5, 6, 9 and 10"
    assert commit_map.decode(12, found.metadata) == commit_map.CommitMap(((12, 14),), FENCE)


def test_nothing_is_told_when_all_that_the_log_dropped_was_finished() -> None:
    found = begin((5, text(5, (5, 12))), 12, 20, worked=True)
    assert (found.offset, found.gap) == (12, None)
    assert commit_map.decode(12, found.metadata).fence == FENCE, "who may write is not forgotten"


def test_a_commit_beyond_the_logs_end_begins_at_the_start() -> None:
    assert begin((50, text(50)), 0, 10, worked=True) == Begin(0, "", Gap("beyond", 50, 0))


def test_a_commit_that_calls_records_finished_which_the_log_never_had_is_not_believed() -> None:
    assert begin((5, text(5, (7, 30))), 0, 10, worked=True) == Begin(0, "", Gap("beyond", 5, 0))


@given(
    st.integers(0, 40),
    st.lists(st.integers(0, 40), unique=True, max_size=10),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_no_record_that_the_log_has_and_no_commit_finished_is_passed_over(
    committed: int, cuts: list[int], start: int, length: int
) -> None:
    cuts = sorted(cut + committed for cut in cuts)
    finished = list(zip(cuts[::2], cuts[1::2], strict=False))
    end = start + length
    found = begin((committed, text(committed, *finished)), start, end, worked=True)
    done = set(range(committed)).union(*(range(a, b) for a, b in finished))
    known = commit_map.decode(found.offset, found.metadata).finished
    taken = set(range(start, found.offset)).union(*(range(a, b) for a, b in known))
    assert found.offset >= start
    assert taken & set(range(start, end)) <= done
    if found.gap is None:
        assert set(range(start)) <= done
    elif found.gap.reason == "expired":
        assert found.gap.dropped == len(set(range(start)) - done)


def test_offsets_are_unfinished_where_no_interval_holds_them() -> None:
    assert unfinished(0, 10, [(2, 4), (9, 15)]) == 7
    assert unfinished(5, 5, []) == 0

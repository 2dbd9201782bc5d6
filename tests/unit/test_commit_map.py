"""The text beside a committed offset: what fits comes back, what is damaged counts as absent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.core.commit_map import LIMIT, CommitMap, Fence, decode, encode
from streams.core.intervals import Intervals

OFFSETS = st.integers(0, 2**62)
GAPS = st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)), max_size=80)
FENCES = st.none() | st.builds(Fence, OFFSETS, st.text(max_size=20))


def intervals(committed: int, gaps: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found, last = [], committed
    for gap, length in gaps:
        found.append((last + gap, last + gap + length))
        last += gap + length
    return tuple(found)


@given(OFFSETS, GAPS, FENCES)
def test_what_was_finished_and_who_may_write_comes_back(committed, gaps, fence) -> None:
    finished = intervals(committed, gaps)
    text, complete = encode(committed, finished, fence)
    assert complete
    assert decode(committed, text) == CommitMap(finished, fence)


@given(OFFSETS, GAPS, FENCES, st.data())
def test_a_damaged_text_is_an_empty_map_and_never_an_error(committed, gaps, fence, data) -> None:
    text, _ = encode(committed, intervals(committed, gaps), fence)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii"))
    damaged = text[:place] + other + text[place + 1 :]
    # Base64 may spell the same bytes in two ways at the very end.
    assert decode(committed, damaged) in {CommitMap(), decode(committed, text)}


@given(st.text(max_size=200))
def test_a_foreign_text_is_an_empty_map(text) -> None:
    assert decode(5, text) == CommitMap() or text.startswith("kl2.")


def test_a_map_that_is_too_long_keeps_its_lowest_part_within_the_brokers_limit() -> None:
    finished = intervals(0, [(2, 1)] * 10_000)
    text, complete = encode(0, finished, Fence(7, "me"))
    assert not complete
    assert len(text) <= LIMIT
    kept = decode(0, text)
    assert kept.finished == finished[: len(kept.finished)]
    assert len(kept.finished) > 1_000
    assert kept.fence == Fence(7, "me")


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=30), st.integers(0, 60))
def test_intervals_are_the_set_of_their_offsets(added, cut) -> None:
    found, wanted = Intervals(), set()
    for start, length in added:
        found.add(start, start + length)
        wanted |= set(range(start, start + length))
    assert {offset for offset in range(80) if offset in found} == wanted
    found.drop_below(cut)
    assert {offset for offset in range(80) if offset in found} == {offset for offset in wanted if offset >= cut}
    assert all(low < high for low, high in zip(found.bounds, found.bounds[1:], strict=False)), "none touch"

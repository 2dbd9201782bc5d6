from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.jsonfeed import JsonFeed, Value

objects = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=8), st.none()), max_size=4)


def fed(data: bytes, size: int = 7, largest: int = 1_000) -> list[Value]:
    feed, found = JsonFeed(largest), []
    for start in range(0, len(data), size):
        found += feed.feed(data[start : start + size])
    return [*found, *feed.close()]


def values(found: list[Value]) -> list[Any]:
    assert not [one for one in found if one.problem]
    return [one.value for one in found]


@given(st.lists(objects, max_size=8), st.integers(1, 50), st.booleans(), st.sampled_from([None, 2]))
def test_lines_and_arrays_give_the_same_values_however_they_are_cut(
    rows: list[Any], size: int, ascii_only: bool, indent: int | None
) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n\n" for row in rows)
    array = "\n\n " + json.dumps(rows, ensure_ascii=ascii_only, indent=indent) + "\n"
    assert values(fed(lines.encode(), size)) == rows
    assert values(fed(array.encode(), size)) == rows


@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_bytes_give_values_or_problems(data: bytes, size: int) -> None:
    assert all((one.problem is None) or (one.value is None) for one in fed(data, size, largest=30))


def test_each_value_knows_its_line() -> None:
    found = fed(b'{"a":1}\n\n{"b":\n{"c":3}')
    assert [(one.line, one.value) for one in found] == [(1, {"a": 1}), (3, None), (4, {"c": 3})]
    assert found[1].problem == "not JSON: Expecting value at column 6"
    assert [one.line for one in fed(b'[\n{"a":1},\n\n{"b":\n2},{"c":3}]')] == [2, 4, 5]


@pytest.mark.parametrize(
    ("data", "line", "problem"),
    [
        (b'[{"a":1},\n{"b":}]', 2, "not JSON: Expecting value"),
        (b'[{"a":1},\n', 2, "the array has no end"),
        (b'[{"a":1}]\nx', 2, "more text behind the end of the array"),
        (b'{"a":1}\n{"a":"\xff"}\n', 2, "not UTF-8"),
        (b'[{"a":1},\n{"a":"\xff"}]', 2, "not UTF-8"),
        (b'[{"a":"' + b"x" * 2_000 + b'"}]', 1, "longer than 1000 characters"),
        (b'{"a":1}\n{"a":"' + b"x" * 2_000 + b'"}', 2, "longer than 1000 characters"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(data: bytes, line: int, problem: str) -> None:
    (last,) = [one for one in fed(data) if one.problem]
    assert (last.line, last.problem) == (line, problem)


def test_a_bad_line_costs_that_line_only() -> None:
    long = b'{"a":"' + b"x" * 5_000 + b'"}'
    found = fed(b'{"a":1}\nnonsense\n' + long + b'\n{"b":2}', size=100)
    assert [(one.line, one.value) for one in found] == [(1, {"a": 1}), (2, None), (3, None), (4, {"b": 2})]


def test_an_endless_line_is_not_kept() -> None:
    feed = JsonFeed(1_000)
    problems = [one for _ in range(100) for one in feed.feed(b"x" * 1_000)]
    assert len(problems) == 1
    assert len(feed._text) <= 1_000
    assert list(feed.feed(b'\n{"a":1}\n')) == [Value(2, {"a": 1})]


def test_nesting_without_end_is_a_problem_not_a_crash() -> None:
    assert fed(b"[" * 100_000, size=50_000, largest=200_000)[0].problem in {
        "nested too deeply",
        "not JSON: Expecting value",
    }
    assert fed(b'{"a":' * 100_000, size=50_000, largest=2_000_000)[0].problem is not None


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert values(fed(b'\xef\xbb\xbf{"a":1}\r\n{"b":2}\r\n')) == [{"a": 1}, {"b": 2}]

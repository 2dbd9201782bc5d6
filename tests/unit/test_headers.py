from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from streams.core import headers as h

numbers = st.integers(0, 2**31 - 2)
levels = st.one_of(st.just(h.SOURCE), st.builds(h.dlt_level, numbers), st.builds(h.Level, numbers, numbers, numbers))
names = st.sampled_from(["a", "b", h.LEVEL, h.FROM, h.ATTEMPTS])
header_lists = st.lists(st.tuples(names, st.one_of(st.none(), st.binary(max_size=4))), max_size=12)


@given(levels)
def test_a_level_survives_its_text(level: h.Level) -> None:
    assert h.parse_level(h.format_level(level)) == level
    assert h.parse_level(h.format_level(level).encode()) == level


@given(levels, numbers)
def test_a_place_survives_its_text(level: h.Level, offset: int) -> None:
    assert h.parse_place(h.format_place(h.Place(level, offset))) == h.Place(level, offset)


@given(st.one_of(st.none(), st.binary(), st.text()))
def test_a_strangers_bytes_never_raise(text: bytes | str | None) -> None:
    for parsed, formatted in ((h.parse_level(text), h.format_level), (h.parse_place(text), h.format_place)):
        if parsed is not None:
            assert formatted(parsed) == (text.decode() if isinstance(text, bytes) else text)
    h.parse_number(text)


@given(st.one_of(st.binary(), st.text(), st.from_regex(r"[0-9]{1,20}", fullmatch=True), numbers.map(str)))
def test_a_number_is_one_only_in_its_plain_form(text: bytes | str) -> None:
    found = h.parse_number(text)
    plain = text if isinstance(text, str) else text.decode(errors="replace")
    assert found == (int(plain) if re.fullmatch(r"0|[1-9][0-9]{0,17}", plain) else None)


def test_what_is_almost_a_level_is_none() -> None:
    near = [
        "",
        "0.0",
        "01.0.0",
        "0.0.0.",
        "-1.0.0",
        "0.0.-1",
        "0.0.\u0661",
        "0.0.0\n",
        "dlt",
        "0.1.dlt",
        "9" * 6000 + ".0.0",
        "0.0.2147483647",
    ]
    assert [h.parse_level(text) for text in near] == [None] * len(near)
    assert [h.parse_place(text) for text in ("source", "@1", "source@", "source@-1", "x@1", "source@1@1")] == [None] * 6


@given(numbers, numbers, numbers)
def test_dead_letters_stand_above_their_tiers_and_below_the_next_generation(
    generation: int, lap: int, tier: int
) -> None:
    assert h.SOURCE < h.Level(generation, lap, tier) < h.dlt_level(generation) < h.Level(generation + 1, 0, 0)


@given(header_lists, st.dictionaries(names, st.one_of(st.none(), st.text(max_size=3), st.binary(max_size=3))))
def test_replaced_headers_are_single_and_the_others_untouched(
    headers: list[tuple[str, bytes]], values: dict[str, str | bytes | None]
) -> None:
    result = h.replaced(headers, values)
    assert [pair for pair in result if pair[0] not in values] == [pair for pair in headers if pair[0] not in values]
    for name, value in values.items():
        expected = value.encode() if isinstance(value, str) else value
        assert [v for n, v in result if n == name] == ([] if expected is None else [expected])


def test_the_last_value_of_a_header_is_read() -> None:
    headers = [(h.ATTEMPTS, b"1"), ("x", b"\xff"), (h.ATTEMPTS, b"22")]
    assert h.number(headers, h.ATTEMPTS) == 22
    assert h.text(headers, "x") == "\ufffd"
    assert h.text(headers, "y") is None
    assert h.number(headers, "x") is None


def test_topics_of_a_family() -> None:
    assert h.tier_topic("jobs.emails", "emails", 0) == "jobs.emails.emails.retry.0"
    assert h.dlt_topic("events.reservation", "warmer") == "events.reservation.warmer.dlt"

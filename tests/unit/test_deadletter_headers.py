from __future__ import annotations

import struct
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core import headers as h
from streams.core.deadletter import ALIASES, HEADER_ROOM, STACK_ROOM, Failure, dead_letter_headers, trace_id
from streams.core.redaction import head, one_line, redacted, tail

FAILURE = Failure(
    topic="jobs.emails",
    partition=3,
    offset=41,
    timestamp=1_700_000_000_123,
    group="emails",
    handler="notification.signin",
    attempts=5,
    time=1_700_000_009_000,
    exception="consumers.mail.ProviderError",
    message="no such mailbox",
    stack=lambda: "Traceback\n  File ...\nProviderError: no such mailbox",
    classification="exhausted",
    version="0.1.0",
)
user_headers = st.lists(st.tuples(st.sampled_from(["ce_id", "x", "traceparent"]), st.binary(max_size=40)), max_size=6)


def test_a_dead_letter_tells_everything_about_its_failure() -> None:
    made = dict(dead_letter_headers([("x", b"1")], FAILURE, aliases=False))
    assert made == {
        "x": b"1",
        h.ORIGIN_TOPIC: b"jobs.emails",
        h.ORIGIN_PARTITION: b"3",
        h.ORIGIN_OFFSET: b"41",
        h.ORIGIN_TIMESTAMP: b"1700000000123",
        h.GROUP: b"emails",
        h.HANDLER: b"notification.signin",
        h.ATTEMPTS: b"5",
        h.FIRST_FAILURE: b"1700000009000",
        h.LAST_FAILURE: b"1700000009000",
        h.EXCEPTION: b"consumers.mail.ProviderError",
        h.MESSAGE: b"no such mailbox",
        h.STACK: b"Traceback\n  File ...\nProviderError: no such mailbox",
        h.CLASSIFICATION: b"exhausted",
        h.VERSION: b"0.1.0",
        h.REPLAYS: b"0",
    }


def test_origin_first_failure_and_replays_of_a_moved_record_stay() -> None:
    first = dead_letter_headers([], replace(FAILURE, time=5), aliases=False)
    moved = h.replaced(first, {h.REPLAYS: "2", h.REPLAY_ID: "r-1", h.DUE: "99"})
    again = dead_letter_headers(
        moved, replace(FAILURE, topic="jobs.emails.emails.retry.0", offset=7, time=9), aliases=False
    )
    expected = {h.ORIGIN_TOPIC: "jobs.emails", h.ORIGIN_OFFSET: "41", h.FIRST_FAILURE: "5", h.LAST_FAILURE: "9"}
    expected |= {h.REPLAYS: "2", h.REPLAY_ID: "r-1", h.DUE: None}
    assert {name: h.text(again, name) for name in expected} == expected


def test_springs_and_kafka_streams_names_carry_their_own_encodings() -> None:
    made = dict(dead_letter_headers([], FAILURE, aliases=True))
    assert made["kafka_original-topic"] == b"jobs.emails"
    assert struct.unpack(">i", made["kafka_original-partition"]) == (3,)
    assert struct.unpack(">q", made["kafka_original-offset"]) == (41,)
    assert struct.unpack(">q", made["kafka_original-timestamp"]) == (1_700_000_000_123,)
    assert made["kafka_dlt-original-consumer-group"] == b"emails"
    assert made["kafka_exception-fqcn"] == b"consumers.mail.ProviderError"
    assert made["__streams.errors.exception"] == b"consumers.mail.ProviderError: no such mailbox"
    assert made["__streams.errors.partition"] == b"3"
    assert made["__streams.errors.offset"] == b"41"
    assert made["kafka_exception-stacktrace"] == made["__streams.errors.stacktrace"] == made[h.STACK]


@given(user_headers, st.text(max_size=400), st.text(max_size=400).map(lambda text: text * 60), st.booleans())
def test_headers_never_pile_up_and_what_is_added_stays_in_its_room(
    users: list[tuple[str, bytes]], message: str, stack: str, aliases: bool
) -> None:
    failure = replace(FAILURE, message=message * 10, stack=lambda: stack, exception=message, handler=message)
    made: list[tuple[str, bytes]] = users
    for _ in range(3):
        made = dead_letter_headers(made, failure, aliases=aliases)
    names = [name for name, _ in made if name.startswith(("kl-", "kafka_", "__"))]
    assert len(names) == len(set(names))
    assert [pair for pair in made if pair[0] not in names] == users
    assert sum(len(name) + len(value) for name, value in made if name in names) <= HEADER_ROOM
    assert len(dict(made)[h.STACK]) <= STACK_ROOM


def test_the_end_of_a_long_stack_is_kept() -> None:
    made = dict(dead_letter_headers([], replace(FAILURE, stack=lambda: "x" * 50_000 + "KeyError: 'é'"), aliases=True))
    assert made[h.STACK].endswith("KeyError: 'é'".encode())
    assert set(ALIASES) <= set(made)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("login with password=hunter2 failed", "hunter2"),
        ('{"db_password": "s3 cret, really"}', "cret"),
        ("api-key: AbCdEf123456", "AbCdEf123456"),
        ("Authorization: Bearer abc.def-ghi", "abc.def"),
        ("Authorization: Basic dXNlcjpwdw==", "dXNlcjpwdw"),
        ("sent bearer abcdefghijkl1234", "abcdefghijkl"),
        ("postgresql://user:hunter2@db/x", "hunter2"),
        ("token eyJhbGciOi.eyJzdWIiOi.c2ln", "eyJzdWIiOi"),
        ("sk_live_abcdefgh12345", "abcdefgh"),
        (f"DELETE /api/v1/keys/kl_0123456789ab_{'c0ffee' * 8}", "c0ffee"),
        (f"signed with kls_{'c0ffee' * 10}", "c0ffee"),
        ("mail to boldbaatar@example.mn refused", "boldbaatar"),
    ],
)
def test_secrets_and_addresses_are_masked(text: str, hidden: str) -> None:
    assert hidden in text
    assert hidden not in redacted(text, 1_000)
    assert "***" in redacted(text, 1_000)


def test_plain_words_are_left_alone() -> None:
    plain = "tokens left: none of the 3 passengers is on page 7 of https://example.org/a:b"
    assert redacted("no mailbox at line 3, column 9: KeyError('seat')", 1_000).endswith("KeyError('seat')")
    assert "passengers is on page 7 of https://example.org/a:b" in redacted(plain, 1_000)


def test_control_and_direction_characters_go() -> None:
    assert one_line(redacted("a\x1b[31m\r\nb\u202ec\u200b\x00\ud800d", 100)) == "a[31m bcd"


@given(st.text(), st.integers(1, 40))
def test_cuts_keep_whole_characters(text: str, room: int) -> None:
    whole = text.encode(errors="replace").decode()
    assert whole.startswith(head(text, room))
    assert whole.endswith(tail(text, room))
    assert len(head(text, room).encode()) <= room
    assert len(tail(text, room).encode()) <= room


@pytest.mark.parametrize(
    "unit", ["password", "a@", "password='", "://a:", "a.", "eyJaaaaa.", "bearer ", "key", "-", " = "]
)
def test_hostile_text_takes_no_time(unit: str) -> None:
    started = time.perf_counter()
    redacted(unit * 500_000, STACK_ROOM, from_end=True)
    assert time.perf_counter() - started < 1.0


def test_the_trace_id_comes_from_a_valid_traceparent_only() -> None:
    good = "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace_id([("traceparent", f"00-{good}-00f067aa0ba902b7-01".encode())]) == good
    assert trace_id([("ce_traceparent", f"00-{good}-00f067aa0ba902b7-01".encode())]) == good
    assert trace_id([("traceparent", f"ff-{good}-00f067aa0ba902b7-01".encode())]) is None
    assert trace_id([("traceparent", f"00-{'0' * 32}-00f067aa0ba902b7-01".encode())]) is None
    assert trace_id([("traceparent", b"\xff")]) is None
    assert trace_id([]) is None

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from streams.adapters.logs import clean, configure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lines() -> Iterator[Any]:
    root = logging.getLogger()
    before, level = root.handlers, root.level
    stream = io.StringIO()
    configure("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = before, level
    structlog.reset_defaults()


def test_a_line_is_one_json_object_with_its_context(lines: Any) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("streams.x").info("request", path="/a\nb\x1b[31m", count=3)

    (line,) = lines()
    assert (line["event"], line["request_id"], line["level"], line["count"]) == ("request", "r1", "info", 3)
    assert line["path"] == "/a\nb\\x1b[31m"
    assert line["logger"] == "streams.x"
    assert line["timestamp"].endswith("Z")


def test_libraries_that_use_logging_write_the_same_lines(lines: Any) -> None:
    logging.getLogger("some.library").warning("password=%s", "hunter2")

    (line,) = lines()
    assert (line["event"], line["level"], line["logger"]) == ("password=***", "warning", "some.library")


def test_an_exception_keeps_its_trace_and_loses_its_secrets(lines: Any) -> None:
    try:
        int("token=abc at bat.erdene@example.com")
    except ValueError:
        structlog.get_logger("streams.x").exception("failed")

    (line,) = lines()
    assert "Traceback" in line["exception"]
    assert "abc" not in line["exception"]
    assert "b***@example.com" in line["exception"]


def test_the_level_is_kept(lines: Any) -> None:
    structlog.get_logger("streams.x").debug("nothing")
    logging.getLogger("aiokafka.consumer").info("chatter")

    assert lines() == []


@pytest.mark.parametrize(
    "name", ["password", "smtp_password", "Authorization", "api_key", "X-Api-Key", "client_secret", "cookie", "token"]
)
def test_fields_that_hold_secrets_are_masked(name: str) -> None:
    assert clean(None, "info", {"event": "x", name: "hunter2", "deep": {name: ["hunter2"]}}) == {
        "event": "x",
        name: "***",
        "deep": {name: "***"},
    }


VALUES = st.recursive(
    st.text() | st.binary() | st.integers() | st.floats() | st.none() | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES))
def test_whatever_is_logged_stays_one_line_of_json(event: dict[str, Any]) -> None:
    line = json.dumps(clean(None, "info", event))

    assert len(line.splitlines()) == 1
    assert all(character.isprintable() for character in line)


def test_long_values_are_cut() -> None:
    assert len(clean(None, "info", {"event": "x" * 1_000_000})["event"]) < 10_000

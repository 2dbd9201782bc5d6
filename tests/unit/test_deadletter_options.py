from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from streams.cli import dlt_view as view
from streams.cli.dlt_options import filtered, moment
from streams.deadletters.entry import Filters
from streams.deadletters.reading import DeadLetterError
from streams.deadletters.story import bytes_shown

if TYPE_CHECKING:
    from collections.abc import Callable


class Taken(NamedTuple):
    filters: Filters
    flag: bool


def chosen(*words: str) -> Filters:
    """What a command with the shared options and one of its own is given."""
    taken: list[Taken] = []
    app = typer.Typer()

    @app.command()
    @filtered
    def command(filters: Callable[[], Filters], flag: bool = False) -> None:
        taken.append(Taken(filters(), flag))

    result = CliRunner().invoke(app, [*words, "--flag"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert taken[0].flag
    return taken[0].filters


def test_without_options_everything_is_meant() -> None:
    assert chosen() == Filters()


def test_each_option_ends_in_its_filter() -> None:
    words = (
        "--group g --topic t --partition 3 --offsets 17-29 --tenant acme --key k --type x.y --exception E --state open"
    )
    assert chosen(*words.split(), "--state", "parked", "--since", "2026-01-01T00:00:00Z") == Filters(
        group="g",
        topic="t",
        partition=3,
        first=17,
        last=29,
        tenant="acme",
        key="k",
        type="x.y",
        exception="E",
        since=1_767_225_600_000,
        states=frozenset({"open", "parked"}),
    )


@pytest.mark.parametrize(("text", "expected"), [("17", (17, 17)), ("17-", (17, None)), ("0-5", (0, 5))])
def test_offsets_are_one_or_a_stretch(text: str, expected: tuple[int, int | None]) -> None:
    found = chosen("--offsets", text)
    assert (found.first, found.last) == expected


def test_one_dead_letter_is_meant_by_its_name() -> None:
    assert chosen("jobs.a.a.dlt/2/17") == Filters(topic="jobs.a.a.dlt", partition=2, first=17, last=17)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("jobs.a.a.dlt/2",), "jobs.a.a.dlt/2: must be <topic>/<partition>/<offset>"),
        (("jobs.a.a.dlt/2/1", "--tenant", "x"), "names one dead letter: leave out the other options"),
        (("--offsets", "5-x"), "--offsets 5-x: must be like 17, 17-29 or 17-"),
        (("--state", "gone"), "--state gone: must be one of open,"),
        (("--since", "yesterday"), "--since yesterday: must be RFC 3339"),
        (("--until", "2026-01-01"), "--until 2026-01-01: name the offset from UTC"),
    ],
)
def test_what_is_meant_must_be_said_clearly(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(DeadLetterError) as refused:
        chosen(*words)
    assert sentence in str(refused.value)


def test_a_span_counts_back_from_now() -> None:
    found = moment("--since", "2h")
    assert found is not None
    assert abs(found - (time.time() - 7_200) * 1000) < 5_000
    assert moment("--since", None) is None


def test_what_came_from_a_record_cannot_steer_the_terminal() -> None:
    assert view.plain("a\x1b[31m[bold]\n\u202e").plain == "a\\x1b[31m[bold]\n\\u202e"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "null"),
        (b"", ""),
        ("Болд".encode(), "Болд"),
        (b"\x00\x01", "0x0001"),
        (b"a\x1b", "0x611b"),
        (b"\xff" * 600, f"0x{'ff' * 512} … 600 bytes"),
    ],
)
def test_bytes_are_shown_as_text_where_they_are_text(value: Any, shown: str) -> None:
    assert bytes_shown(value) == shown


def test_moments_are_utc_and_nonsense_is_left_as_it_is() -> None:
    assert view.when(1_767_225_600_123) == "2026-01-01T00:00:00.123Z"
    assert view.when(10**18) == str(10**18)

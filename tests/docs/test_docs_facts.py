"""What the documents name exists, and what they tabulate is what the code says."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from typing import TYPE_CHECKING, Any, get_args

import pytest
import typer.main

from streams.cli import COMMANDS
from streams.core import deadletter, headers
from streams.core.replay import STATES
from streams.core.retry import RetryPolicy
from streams.gateway.problems import KINDS
from streams.job import Batch, Queue
from streams.metrics import TABLE
from streams.settings import Settings
from streams.tracing import names
from tests.docs.pages import DOCS, PAGES, ROOT, anchors, blocks, links, markers, spans, table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def shell_lines(page: Path) -> list[str]:
    """The inline code and the lines of shell blocks."""
    named = [line for block in blocks(page) if block.language == "sh" for line in block.commands]
    return [*(span for span in spans(page) if "<" not in span or "--" in span), *named]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    roots = ("streams/", "schemas/", "consumers/", "tests/", "docs/", "requirements/", ".ci/")
    written = {block.value for other in PAGES for block in blocks(other) if block.kind == "file"}
    named = [span for span in spans(page) if span.startswith(roots) and not re.search(r"[ <*…]", span)]
    assert [span for span in named if not (ROOT / span).exists() and span not in written] == []


@each_page
def test_blocks_are_sound(page: Path) -> None:
    found = blocks(page)
    assert sum(bool(block.kind) for block in found) == markers(page), "a marker stands right above its block"
    for block in found:
        assert block.language in {"sh", "text", "python", "javascript", "json", "yaml"}, block
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "json":
            _parse_json(block.text)


def _parse_json(text: str) -> None:
    try:
        json.loads(text)
    except json.JSONDecodeError:  # JSON Lines
        for line in text.splitlines():
            json.loads(line)


@each_page
def test_commands_that_are_named_exist_with_their_options(page: Path) -> None:
    for line in shell_lines(page):
        program, *words = shlex.split(line.partition(" #")[0]) or [""]
        if program == "keylane" and words:
            _check_command(line, words)
        elif program == "make":
            assert {word for word in words if "=" not in word} <= MAKE_TARGETS, line


def _check_command(line: str, words: list[str]) -> None:
    name, *rest = words
    assert name in COMMANDS, line
    command: Any = typer.main.get_command(importlib.import_module(f"streams.cli.{name}").app)
    if getattr(command, "commands", None) and rest:
        assert rest[0] in command.commands, line
        command = command.commands[rest[0]]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"} <= options, line


@each_page
def test_settings_and_metrics_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    settings = [f"KEYLANE_{name.upper()}" for name in Settings.model_fields]
    for name in set(re.findall(r"KEYLANE_[A-Z0-9_]+", text)):
        known = [one for one in settings if one.startswith(name)] if name.endswith("_") else name in settings
        assert known, name
    metrics = {metric.name for metric in TABLE}
    assert set(re.findall(r"\bkeylane_[a-z_]+", text)) <= metrics


def test_the_table_of_settings_is_complete_and_its_defaults_are_right() -> None:
    documented = {row[0]: row[1] for row in table(DOCS / "operations.md", "| variable | default |")}
    expected = {f"KEYLANE_{name.upper()}": _shown(field.default) for name, field in Settings.model_fields.items()}
    assert documented == expected


def _shown(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, tuple):
        return json.dumps(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_table_of_problems_is_that_of_the_code() -> None:
    documented = {row[0]: int(row[1]) for row in table(DOCS / "gateway.md", "| kind | status |")}
    assert documented == {name: kind.status for name, kind in KINDS.items()}


def test_the_table_of_spans_is_that_of_the_code() -> None:
    documented = {row[0]: (row[1], row[3]) for row in table(DOCS / "tracing.md", "| span | kind |")}
    assert documented == {row.name: (row.kind, _bracketed(row)) for row in names.TABLE}


def _bracketed(row: names.SpanRow) -> str:
    shown = [*(f"`{name}`" for name in row.always), *(f"[`{name}`]" for name in row.sometimes)]
    return ", ".join(shown).strip("`")


def test_the_tables_of_dead_letters_are_those_of_the_code() -> None:
    page = DOCS / "dead-letters.md"
    named = set(spans(page))
    own = {value for value in vars(headers).values() if isinstance(value, str) and re.fullmatch(r"kl-[a-z-]+", value)}
    assert {span for span in named if span.startswith("kl-")} == own
    assert {span for span in named if span.startswith(("kafka_", "__streams"))} == set(deadletter.ALIASES)
    assert _first(table(page, "| classification |")) == list(get_args(deadletter.Classification))
    assert set(_first(table(page, "| state |"))) == set(STATES)


def _first(rows: Iterable[list[str]]) -> list[str]:
    return [row[0] for row in rows]


def test_defaults_that_are_quoted_are_the_defaults() -> None:
    quoted = " ".join(spans(DOCS / "jobs.md"))
    policy = re.search(r"RetryPolicy\(attempts=.*?skip\"\)", quoted)[0]
    assert eval(policy, {"RetryPolicy": RetryPolicy}) == RetryPolicy()  # noqa: S307 - our own page
    assert eval(re.search(r"Batch\(.*?\)", quoted)[0], {"Batch": Batch}) == Batch()  # noqa: S307 - our own page
    queue = re.search(r"Queue\(name, tiers, concurrency=(\d+), partitions=(\d+)\)", quoted)
    assert queue
    assert tuple(map(int, queue.groups())) == (Queue(name="q").concurrency, Queue(name="q").partitions)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200

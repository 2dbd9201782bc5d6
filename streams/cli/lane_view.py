"""How a key's standing is shown: a line per fact for people, JSON for programs.

Invariant: what nobody was asked for is said, never left to be taken for "nothing".
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from streams.cli.dlt_view import plain, when
from streams.core.headers import DLT, format_level

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streams.adapters.workers import Answer
    from streams.core.standing import AtLevel
    from streams.deadletters.entry import Entry
    from streams.standing.keys import KeyStanding, Unfinished

    Fact = tuple[str, str]


def table(key: str, found: Sequence[KeyStanding], answers: Sequence[Answer], now: float) -> Table:
    """A row per fact, by group."""
    shown = Table("group", "where", Column("what", overflow="fold"), title=plain(key), title_justify="left")
    for one in found:
        name = f"{one.group}, partition {one.partition}"
        for where, what in facts(one, answers, now):
            shown.add_row(plain(name), plain(where), plain(what))
            name = ""
        shown.add_section()
    return shown


def facts(one: KeyStanding, answers: Sequence[Answer], now: float) -> Iterator[Fact]:
    """What is known of a key in one group, what runs first in front."""
    if not (one.levels or one.unfinished.records or one.dead_letters):
        yield "free", "nothing of it is unfinished"
    for position, level in enumerate(one.levels):
        yield _topic(level), _at_level(level, now, first=position == 0)
    yield from _source(one.unfinished)
    for entry in one.dead_letters:
        yield "dead letter", _dead(entry)
    for answer in answers:
        if (held := answer.groups.get(one.group)) is not None:
            yield "worker", f"{answer.url}: {_in_memory(held, now)}"
    for place, gap in one.gaps.items():
        yield "gap", f"{place.topic} will be read from {gap.begin} on, not from {gap.stood} ({gap.reason})"


def unknown(answers: Sequence[Answer]) -> Iterator[str]:
    """What this look does not tell."""
    if not answers:
        yield "no worker was asked, and only they know whether it runs or waits in place: name one with --worker URL"
    for answer in answers:
        if answer.problem:
            yield f"{answer.url} did not answer, so what it holds is not known: {answer.problem}"


def as_json(key: str, found: Sequence[KeyStanding], answers: Sequence[Answer], now: float) -> dict[str, Any]:
    """All of it."""
    return {
        "key": key,
        "at": when(int(now * 1000)),
        "groups": [_group_json(one, answers) for one in found],
        "not_known": list(unknown(answers)),
    }


def _group_json(one: KeyStanding, answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "group": one.group,
        "source": one.source,
        "partition": one.partition,
        "unfinished": asdict(one.unfinished),
        "levels": [
            {
                "level": format_level(level.level),
                "topic": _topic(level),
                **{name: getattr(level, name) for name in ("offset", "due", "attempts", "records")},
            }
            for level in one.levels
        ],
        "dead_letters": [{"ref": entry.ref, "state": entry.state, "held": entry.held} for entry in one.dead_letters],
        "workers": {answer.url: answer.groups.get(one.group) for answer in answers if not answer.problem},
        "gaps": {place.topic: asdict(gap) for place, gap in one.gaps.items()},
    }


def _topic(level: AtLevel) -> str:
    return "dlt" if level.shelf == DLT else f"retry.{level.shelf}"


def _at_level(level: AtLevel, now: float, *, first: bool) -> str:
    behind = f"; {level.records - 1} behind it" if level.records > 1 else ""
    if level.shelf == DLT:
        return f"held: offset {level.offset} in front{behind}"
    if not first:
        return f"offset {level.offset} waits for what is above{behind}"
    attempts = f", {level.attempts} failed" if level.attempts else ""
    return f"offset {level.offset}, due {_due(level.due, now)}{attempts}{behind}"


def _source(unfinished: Unfinished) -> Iterator[Fact]:
    if unfinished.published is not None:
        first = f"the first at offset {unfinished.offset}, published {when(unfinished.published)}"
        yield "source", f"{unfinished.records} unfinished, {first}, behind {unfinished.before} of other keys"
    if unfinished.beyond:
        yield "source", f"the last {unfinished.beyond} records were not looked at: --depth"


def _dead(entry: Entry) -> str:
    return f"{entry.ref} {entry.state}: {entry.exception or entry.classification} {entry.message}".rstrip()


def _in_memory(held: Mapping[str, Any], now: float) -> str:
    parts = [f"{held['running']} running", f"{held['waiting']} waiting"]
    if held["due"] > now:
        parts.append(f"in place until {_due(held['due'], now)}, {held['attempts']} failed")
    if held["writing"]:
        parts.append(f"{held['writing']} being moved")
    if held["awaits_commit"]:
        parts.append("waits for a commit")
    return ", ".join(parts)


def _due(due: float, now: float) -> str:
    return f"in {due - now:.1f} s ({when(int(due * 1000))})" if due > now else "now"

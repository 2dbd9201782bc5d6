"""How dead letters, plans and reports are shown: tables for people, JSON for programs.

Invariant: text that came from a record is shown literally; control characters in it are escaped.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.gateway.letterviews import OperationView
    from streams.gateway.views import DeadLetterView

_COLOURS = {"open": "red", "parked": "magenta", "waiting": "yellow", "resolved": "green", "replayed": "cyan"}


def table(letters: Iterable[DeadLetterView]) -> Table:
    """The dead letters, one a row."""
    fold = [Column(name, overflow="fold") for name in ("dead letter", "key", "type", "exception", "message")]
    shown = Table("state", "failed", *fold, "replays")
    for letter in letters:
        shown.add_row(
            Text(letter.state, style=_COLOURS.get(letter.state, "")),
            letter.failed_at,
            *(plain(text) for text in (letter.ref, letter.key or "", letter.type, _reason(letter), letter.message)),
            str(letter.replays),
        )
    return shown


def _reason(letter: DeadLetterView) -> str:
    return letter.exception.rpartition(".")[2] or letter.classification


def as_json(letter: DeadLetterView) -> dict[str, Any]:
    """A dead letter as JSON: everything but its payload, stack and user headers."""
    return {
        "ref": letter.ref,
        "state": letter.state,
        "operation": letter.operation,
        "unfinished": letter.unfinished,
        "group": letter.group,
        "source": letter.topic,
        "tenant": letter.tenant,
        "key": letter.key,
        "type": letter.type,
        "classification": letter.classification,
        "exception": letter.exception,
        "message": letter.message,
        "attempts": letter.attempts,
        "replays": letter.replays,
        "held": letter.held,
        "failed_at": letter.failed_at,
        "origin": letter.origin and letter.origin.model_dump(),
    }


def plan_json(plan: OperationView) -> dict[str, Any]:
    """What a plan takes and what it leaves."""
    return {
        "entries": plan.entries,
        "by_partition": plan.by_partition,
        "refused": [one.model_dump() for one in plan.refused or ()],
        "passed_over": plan.passed_over,
    }


def plan_table(plan: OperationView) -> Table:
    """How many entries a plan takes, by topic."""
    shown = Table("dead letters of", "entries")
    for topic, count in sorted((plan.by_topic or {}).items()):
        shown.add_row(plain(topic), str(count))
    return shown


def when(milliseconds: int) -> str:
    """A moment in UTC, RFC 3339."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(milliseconds)  # a stranger's header
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(text: str) -> Text:
    """The text as it is, without markup, with control characters escaped."""
    kept = "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)
    return Text(kept)


def dumped(value: Any) -> str:
    """JSON for people and programs."""
    return json.dumps(value, indent=2, ensure_ascii=False)

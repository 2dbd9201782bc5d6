"""How dead letters, plans and reports are shown: tables for people, JSON for programs.

Invariant: text that came from a record is shown literally; control characters in it are escaped.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

from streams.core import headers as h
from streams.deadletters.entry import format_ref

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.core.replay import Plan
    from streams.deadletters.entry import Entry

_COLOURS = {"open": "red", "parked": "magenta", "waiting": "yellow", "resolved": "green", "replayed": "cyan"}


def table(entries: Iterable[Entry]) -> Table:
    """The entries, one a row."""
    fold = [Column(name, overflow="fold") for name in ("dead letter", "key", "type", "exception", "message")]
    shown = Table("state", "failed", *fold, "replays")
    for entry in entries:
        shown.add_row(
            Text(entry.state, style=_COLOURS.get(entry.state, "")),
            when(entry.failed_at),
            *(plain(text) for text in (entry.ref, entry.key or "", entry.type, _reason(entry), entry.message)),
            str(entry.replays),
        )
    return shown


def _reason(entry: Entry) -> str:
    return entry.exception.rpartition(".")[2] or entry.classification


def as_json(entry: Entry) -> dict[str, Any]:
    """An entry as JSON: everything but its payload, stack and user headers."""
    return {
        "ref": entry.ref,
        "state": entry.state,
        "operation": entry.operation,
        "unfinished": entry.unfinished,
        "group": entry.family.group,
        "source": entry.family.source,
        "tenant": entry.tenant,
        "key": entry.key,
        "type": entry.type,
        "classification": entry.classification,
        "exception": entry.exception,
        "message": entry.message,
        "attempts": h.number(entry.record.headers, h.ATTEMPTS),
        "replays": entry.replays,
        "held": entry.held,
        "failed_at": when(entry.failed_at),
        "origin": entry.origin and entry.origin._asdict(),
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """What a plan takes and what it leaves."""
    return {
        "entries": len(plan),
        "by_partition": {f"{where.topic}/{where.partition}": len(found) for where, found in plan.offsets.items()},
        "refused": [{"ref": format_ref(one.where, one.offset), "reason": one.reason} for one in plan.refusals],
        "passed_over": plan.passed_over,
    }


def plan_table(plan: Plan) -> Table:
    """How many entries a plan takes, by topic."""
    counts: Counter[str] = Counter()
    for where, offsets in plan.offsets.items():
        counts[where.topic] += len(offsets)
    shown = Table("dead letters of", "entries")
    for topic, count in sorted(counts.items()):
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

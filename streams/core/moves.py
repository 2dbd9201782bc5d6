"""The headers that carry a record's way when it moves: where it is, where it came from, who moved it, when it is due.

Invariant: each header once, replaced at every hop; the origin is written at the first hop and never changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.core import headers
from streams.core.commands import DeadLetter
from streams.core.headers import Place, format_level, format_place

if TYPE_CHECKING:
    from streams.core.commands import Append


def way(command: Append | DeadLetter, mover: str) -> dict[str, str | None]:
    """The ``kl-`` headers to set on the moved record; None takes one away."""
    entry = command.entry
    follows_dead = not isinstance(command, DeadLetter) and command.level.tier == headers.DLT
    due, hold = (0.0, command.hold) if isinstance(command, DeadLetter) else (command.due, follows_dead)
    values = {
        headers.LEVEL: format_level(command.level),
        headers.FROM: format_place(Place(entry.level, entry.offset)),
        headers.MOVER: mover,
        headers.DUE: str(int(due * 1000)) if due else None,
        headers.ATTEMPTS: str(entry.attempts),
        headers.HOLD: headers.HELD if hold else None,
    }
    if isinstance(command, DeadLetter):
        values |= {headers.ENTRY: None, headers.REPLAY_ID: headers.text(entry.record.headers, headers.REPLAY_ID)}
    else:
        values[headers.CLASSIFICATION] = headers.FOLLOWER if follows_dead else None
    return {**origin(entry.record), **values}


def origin(record: Any) -> dict[str, str]:
    """The origin headers of a record that has none yet: the place it is read from now."""
    if headers.header(record.headers, headers.ORIGIN_TOPIC) is not None:
        return {}
    return {
        headers.ORIGIN_TOPIC: record.topic,
        headers.ORIGIN_PARTITION: str(record.partition),
        headers.ORIGIN_OFFSET: str(record.offset),
        headers.ORIGIN_TIMESTAMP: str(record.timestamp),
    }

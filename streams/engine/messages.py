"""Turns a move of the core into the record to write: same key, value and user headers, with its way and its story.

Invariant: every header of ours stands once, however often a record moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.core import headers, moves
from streams.core.commands import DeadLetter
from streams.core.deadletter import dead_letter_headers
from streams.ports import Message

if TYPE_CHECKING:
    from streams.core.commands import Append
    from streams.core.deadletter import Failure
    from streams.ports import Record, TopicPartition


def moved_message(move: Append | DeadLetter, target: TopicPartition, mover: str, *, aliases: bool) -> Message:
    """The record of a move.

    Args:
        move: What the core asked for.
        target: The partition to write to.
        mover: The name of this ownership.
        aliases: Whether dead letters carry Spring's and Kafka Streams' header names as well.
    """
    record: Record = move.entry.record
    found, values = record.headers, moves.way(move, mover)
    if isinstance(move, DeadLetter):
        found = dead_letter_headers(found, move.failure, aliases=aliases)
    else:
        if move.failure is not None:
            values |= _failure_seen(record, move.failure)
        if move.entry.level.tier == headers.DLT:
            values |= {headers.ENTRY: f"{record.topic}/{record.partition}/{record.offset}"}
    return Message(target.topic, record.key, record.value, headers.replaced(found, values), target.partition)


def _failure_seen(record: Record, failure: Failure) -> dict[str, str | None]:
    first = headers.number(record.headers, headers.FIRST_FAILURE)
    return {headers.FIRST_FAILURE: str(failure.time if first is None else first)}


def finished_entry(record: Record, dlt: str) -> str | None:
    """The entry that finishes with this record, ``<dlt topic>/<partition>/<offset>``, or None.

    A replayed record is a copy of its dead letter; a follower that was set free is its own entry.
    """
    if record.topic == dlt:
        return f"{dlt}/{record.partition}/{record.offset}"
    named = headers.text(record.headers, headers.ENTRY)
    if named is not None or headers.header(record.headers, headers.REPLAY_ID) is None:
        return named
    place = headers.parse_place(headers.header(record.headers, headers.FROM))
    if place is None or place.level.tier != headers.DLT:
        return None
    return f"{dlt}/{record.partition}/{place.offset}"

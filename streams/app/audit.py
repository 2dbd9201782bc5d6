"""Checks the audit trail: the chain in PostgreSQL, and that the topic has the same records."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streams.adapters.audit import BEFORE_ALL, published_entry
from streams.audit import TOPIC, Chain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.adapters.audit import SqlAudit
    from streams.audit import Entry
    from streams.keys import Secrets
    from streams.ports import LogReader


class Verdict(NamedTuple):
    """How many records are whole, how many of them wait for the topic, and the first fault, if there is one."""

    whole: int
    waiting: int
    fault: str | None


async def verify(audit: SqlAudit, reader: LogReader, vault: Secrets) -> Verdict:
    """Check everything, while records may go on being written.

    Raises:
        TransientError: The database or the broker is away.
    """
    chain, stored, waiting = Chain(vault), dict[int, bytes](), set[int]()
    fault = await _walk(chain, audit.entries(BEFORE_ALL), stored, waiting)
    if fault is not None:
        return Verdict(chain.length, len(waiting), fault)
    known = chain.length
    copies, fault = await _copies(reader)
    # What was written since the first look may stand in the topic; it need not.
    fault = fault or await _walk(chain, audit.entries(known), stored, waiting)
    waiting |= set(range(known + 1, chain.length + 1)) - copies.keys()
    return Verdict(chain.length, len(waiting - copies.keys()), fault or _difference(stored, copies, waiting))


async def _walk(
    chain: Chain, entries: AsyncIterator[tuple[Entry, bool]], stored: dict[int, bytes], waiting: set[int]
) -> str | None:
    async for entry, published in entries:
        fault = chain.fault(entry)
        if fault is not None:
            return f"in the database, {fault}"
        stored[entry.sequence] = entry.fingerprint
        if not published:
            waiting.add(entry.sequence)
    return None


async def _copies(reader: LogReader) -> tuple[dict[int, bytes], str | None]:
    """The fingerprints of the topic's records; one that is there twice, as after a crash, must be the same twice."""
    found: dict[int, bytes] = {}
    async for batch in reader.read(await reader.starts([TOPIC]), await reader.ends([TOPIC])):
        for record in batch:
            try:
                entry = published_entry(record)
            except ValueError as error:
                return found, f"in the topic, offset {record.offset}: {error}"
            if found.setdefault(entry.sequence, entry.fingerprint) != entry.fingerprint:
                return found, f"in the topic, offset {record.offset}: record {entry.sequence} again, but not the same"
    return found, None


def _difference(stored: dict[int, bytes], copies: dict[int, bytes], waiting: set[int]) -> str | None:
    for sequence in sorted(stored.keys() | copies.keys()):
        if sequence not in stored:
            return f"record {sequence} is in the topic and not in the database"
        if sequence not in copies and sequence not in waiting:
            return f"record {sequence} is in the database and not in the topic"
        if sequence in copies and copies[sequence] != stored[sequence]:
            return f"record {sequence} is not the same in the topic and in the database"
    return None

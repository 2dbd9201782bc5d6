"""The audit trail in PostgreSQL, which is its head, and its copy in the topic ``audit``.

Invariant: records are written one after the other, whatever process writes (an advisory lock, held until the commit),
so the chain has no fork. A record is stored before it is published; ``published`` says whether the topic has it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, Table, Text, bindparam, func, select, update

from streams.adapters.sql import METADATA, away
from streams.audit import MAC_HEADER, TOPIC, Entry, following
from streams.ports import Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from streams.audit import Act
    from streams.keys import Secrets
    from streams.ports import Publisher, Record

AUDIT = Table(
    "audit",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Column("published", Boolean, nullable=False),
)
Index("audit_unpublished", AUDIT.c.sequence, postgresql_where=~AUDIT.c.published)
# Keys of PostgreSQL's advisory locks: any numbers nobody else uses.
_CHAIN_LOCK = 0x6B65796C_61756469
_RELAY_LOCK = 0x6B65796C_72656C61
_PAGE = 100  # records
BEFORE_ALL = -(2**63)  # before any number that anybody could have put in
_ENTRY = (AUDIT.c.sequence, AUDIT.c.record, AUDIT.c.mac)
_LAST = select(*_ENTRY).order_by(AUDIT.c.sequence.desc()).limit(1)
_PAGES = select(*_ENTRY, AUDIT.c.published).where(AUDIT.c.sequence > bindparam("after")).order_by(AUDIT.c.sequence)
_UNPUBLISHED = select(*_ENTRY).where(~AUDIT.c.published).order_by(AUDIT.c.sequence).limit(_PAGE)


class SqlAudit:
    """The ``Audit`` port, and what reads and publishes the trail."""

    def __init__(self, engine: AsyncEngine, vault: Secrets) -> None:
        self._engine = engine
        self._vault = vault

    async def record(self, act: Act) -> None:
        """See ``Audit.record``."""
        with away():
            async with self._engine.begin() as connection:
                await self.append(connection, act)

    async def append(self, connection: AsyncConnection, act: Act) -> None:
        """Write the act down in the connection's transaction, with what is done in it."""
        await connection.execute(select(func.pg_advisory_xact_lock(_CHAIN_LOCK)))
        last = (await connection.execute(_LAST)).first()
        entry = following(None if last is None else Entry(*last), act, self._vault, time.time_ns() // 1_000_000)
        await connection.execute(AUDIT.insert().values(**entry._asdict(), published=False))

    async def entries(self, after: int = BEFORE_ALL) -> AsyncIterator[tuple[Entry, bool]]:
        """The trail in order from behind the record ``after`` on, and whether the topic has it.

        Raises:
            TransientError: The database is away.
        """
        while True:
            with away():
                async with self._engine.connect() as connection:
                    page = (await connection.execute(_PAGES.limit(_PAGE), {"after": after})).all()
            for *entry, published in page:
                yield Entry(*entry), published
            if len(page) < _PAGE:
                return
            after = page[-1].sequence

    async def newest(self, count: int) -> list[Entry]:
        """The last records, newest first.

        Raises:
            TransientError: The database is away.
        """
        with away():
            async with self._engine.connect() as connection:
                return [Entry(*row) for row in await connection.execute(_LAST.limit(count))]

    async def publish(self, publisher: Publisher) -> int:
        """Bring to the topic, in order, what it does not have yet; how many records that were.

        Raises:
            TransientError: The database or the broker is away; some records may have been published, and will be again.
            RecordRefusedError: The broker does not take a record.
        """
        with away():
            async with self._engine.begin() as connection:
                if not await connection.scalar(select(func.pg_try_advisory_xact_lock(_RELAY_LOCK))):
                    return 0  # another process is doing it
                entries = [Entry(*row) for row in await connection.execute(_UNPUBLISHED)]
                for entry in entries:
                    await publisher.publish(message(entry))
                    told = update(AUDIT).where(AUDIT.c.sequence == entry.sequence).values(published=True)
                    await connection.execute(told)
        return len(entries)


def published_entry(record: Record) -> Entry:
    """The entry a record of the topic holds.

    Raises:
        ValueError: It holds none.
    """
    headers = dict(record.headers)
    if record.key is None or record.value is None or MAC_HEADER not in headers:
        raise ValueError("it is no audit record")
    return Entry(int(record.key), record.value.decode(), bytes.fromhex(headers[MAC_HEADER].decode()))


def message(entry: Entry) -> Message:
    """The entry as a record of the topic."""
    headers = [("content-type", b"application/json"), (MAC_HEADER, entry.mac.hex().encode())]
    return Message(TOPIC, str(entry.sequence).encode(), entry.record.encode(), headers, partition=0)

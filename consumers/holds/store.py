"""What the hold sweeper does in SQL; the table is made on first use.

Invariant: each method is one transaction and can be repeated without a further effect.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ProgrammingError

from consumers.holds.table import HOLDS, METADATA
from streams.adapters.sql import away

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from schemas.reservation_held.model import Held

T = TypeVar("T")

# Keys of PostgreSQL's advisory locks: any numbers nobody else uses.
_SWEEP_LOCK = 0x6B65796C_686F6C64
_CREATE_LOCK = _SWEEP_LOCK + 1
_UNDEFINED_TABLE = "42P01"

_OPEN = ("held", "expiring")
_OVER = ("expired", "settled")

KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that is expiring; ``captured`` gives the end offset of each partition from before."""

    tenant: str
    reservation_id: str
    entity: str
    reservation: Mapping[str, Any]
    captured: Mapping[int, int]


class Overdue(NamedTuple):
    """The database's time, and how many seconds before it the oldest hold that is to be swept ran out."""

    now: datetime
    lag: float


class Holds:
    """The holds of all tenants."""

    def __init__(self, sql: AsyncEngine) -> None:
        self._sql = sql

    async def remember(self, tenant: str, entity: str, held: Held) -> None:
        """Note a hold, or its new expiry; a hold that is over stays over.

        Raises:
            TransientError: PostgreSQL is away.
        """
        new = insert(HOLDS).values(
            tenant=tenant,
            reservation_id=held.reservation_id,
            entity=entity,
            state="held",
            expires_at=held.expires_at,
            reservation=held.model_dump(mode="json"),
        )
        changed = {"expires_at": new.excluded.expires_at, "reservation": new.excluded.reservation}
        await self._execute(
            new.on_conflict_do_update(
                index_elements=HOLDS.primary_key.columns, set_=changed, where=HOLDS.c.state == "held"
            )
        )

    async def end(self, tenant: str, entity: str, reservation_id: str, state: str) -> None:
        """Note that a hold is ``settled`` or ``expired``, also where it is not known yet.

        Raises:
            TransientError: PostgreSQL is away.
        """
        new = insert(HOLDS).values(
            tenant=tenant, reservation_id=reservation_id, entity=entity, state=state, expires_at=func.now()
        )
        ended = {"state": new.excluded.state, "updated_at": func.now()}
        await self._execute(
            new.on_conflict_do_update(
                index_elements=HOLDS.primary_key.columns, set_=ended, where=HOLDS.c.state.in_(_OPEN)
            )
        )

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Whether this process is the only one sweeping, as long as the context lasts."""
        with away():
            async with self._sql.begin() as connection:
                # Bound to the transaction, the lock goes with the connection, whatever happens.
                yield bool(await connection.scalar(select(func.pg_try_advisory_xact_lock(_SWEEP_LOCK))))

    async def overdue(self) -> Overdue | None:
        """What there is to sweep; None where no hold has run out and none is expiring.

        Raises:
            TransientError: PostgreSQL is away.
        """
        now = func.clock_timestamp()
        first = select(func.min(HOLDS.c.expires_at))
        expiring = first.where(HOLDS.c.state == "expiring").scalar_subquery()
        held = first.where(HOLDS.c.state == "held", HOLDS.c.expires_at <= now).scalar_subquery()
        oldest = func.least(expiring, held).label("oldest")
        (found,) = await self._execute(select(now.label("now"), oldest))
        return None if found.oldest is None else Overdue(found.now, (found.now - found.oldest).total_seconds())

    async def begin_expiring(self, until: datetime, captured: Mapping[int, int], limit: int) -> list[Hold]:
        """Take up to ``limit`` holds that had run out by ``until``, the oldest first, from ``held`` to ``expiring``.

        Raises:
            TransientError: PostgreSQL is away.
        """
        due = (
            select(HOLDS.c.tenant, HOLDS.c.reservation_id)
            .where(HOLDS.c.state == "held", HOLDS.c.expires_at <= until)
            .order_by(HOLDS.c.expires_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        offsets = {str(partition): offset for partition, offset in captured.items()}
        taken = (
            update(HOLDS)
            .where(tuple_(HOLDS.c.tenant, HOLDS.c.reservation_id).in_(due))
            .values(state="expiring", captured=offsets, updated_at=func.now())
            .returning(HOLDS)
        )
        return [_hold(row) for row in await self._execute(taken)]

    async def expiring(self) -> list[Hold]:
        """The holds whose expiry may or may not be published.

        Raises:
            TransientError: PostgreSQL is away.
        """
        return [_hold(row) for row in await self._execute(select(HOLDS).where(HOLDS.c.state == "expiring"))]

    async def expired(self, holds: Iterable[Hold]) -> None:
        """Note that the expiry of these holds is in the log.

        Raises:
            TransientError: PostgreSQL is away.
        """
        keys = [(hold.tenant, hold.reservation_id) for hold in holds]
        done = update(HOLDS).where(
            HOLDS.c.state == "expiring", tuple_(HOLDS.c.tenant, HOLDS.c.reservation_id).in_(keys)
        )
        await self._execute(done.values(state="expired", updated_at=func.now()))

    async def forget(self) -> None:
        """Delete the rows of holds that have been over for ``KEPT_FOR``.

        Raises:
            TransientError: PostgreSQL is away.
        """
        await self._execute(delete(HOLDS).where(HOLDS.c.state.in_(_OVER), HOLDS.c.updated_at < func.now() - KEPT_FOR))

    async def _execute(self, statement: Any) -> list[Row[Any]]:
        async def work(connection: AsyncConnection) -> list[Row[Any]]:
            result = await connection.execute(statement)
            return list(result) if result.returns_rows else []

        return await self._transaction(work)

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        with away():
            try:
                async with self._sql.begin() as connection:
                    return await work(connection)
            except ProgrammingError as error:
                if getattr(error.orig, "sqlstate", None) != _UNDEFINED_TABLE:
                    raise
            await self._create()
            async with self._sql.begin() as connection:
                return await work(connection)

    async def _create(self) -> None:
        async with self._sql.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(_CREATE_LOCK)))
            await connection.run_sync(METADATA.create_all)


def _hold(row: Row[Any]) -> Hold:
    captured = {int(partition): offset for partition, offset in row.captured.items()}
    return Hold(row.tenant, row.reservation_id, row.entity, row.reservation, captured)

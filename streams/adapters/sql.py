"""PostgreSQL: the engine, the migrations, and the job history with its projection.

Invariant: storing a status twice, late or out of order changes nothing that ``streams.history.merge`` would not.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncpg.exceptions import PostgresError
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    table,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import create_async_engine

from streams.adapters import steps
from streams.core.retry import RetryPolicy
from streams.history import JobRow, merged, row, storable
from streams.job import Batch, TransientError, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import URL, Select
    from sqlalchemy.dialects.postgresql import Insert
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from schemas.job_status.model import Status
    from streams.history import JobFilters, Mark
    from streams.ports import Context

METADATA = MetaData()
JOBS = Table(
    "jobs",
    METADATA,
    Column("job_id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("tenant", Text, primary_key=True),
    Column("key", Text),
    Column("entity", Text),
    Column("status", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("replays", Integer, nullable=False),
    Column("payload", JSONB(none_as_null=True)),
    Column("result", JSONB(none_as_null=True)),
    Column("error", Text),
    Column("stack", Text),
    Column("worker", Text),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("due_at", BigInteger),
    Column("steps", JSONB, nullable=False, server_default="{}"),
    # Each ends as lists are sorted, so that a page is read from the index and no list is ever sorted.
    Index("jobs_created", "created_at", "job_id"),
    *(
        Index(f"jobs_{name}_created", name, "created_at", "job_id")
        for name in ("tenant", "type", "queue", "status", "key")
    ),
)
_IDENTITY = ("job_id", "tenant")
_NAMES = tuple(field.name for field in fields(JobRow))
VERSION_TABLE = "keylane_version"
HEAD = "0004"  # the newest of ``migrations``
# The key of PostgreSQL's advisory lock: any number nobody else uses.
_MIGRATION_LOCK = 0x6B65796C_6D696772
# Classes of SQLSTATE that say nothing about the statement: no connection, rolled back by others, out of resources,
# shutting down, input/output error.
_AWAY = {"08", "40", "53", "57", "58"}
_BATCH = Batch(size=500, linger=0.02)
_CONNECTING = 5.0  # seconds


def connect(url: str | URL, *, pool_size: int = 10, ping: bool = True, patience: float = 30.0) -> AsyncEngine:
    """The engine of ``postgresql+asyncpg://…``; it connects on first use, and again after the server was away.

    Args:
        url: Of the database.
        pool_size: Connections that are kept.
        ping: Look whether a connection still lives before each use; without it, one use fails after a restart.
        patience: Seconds until a statement without an answer counts as failed; so are connecting, and waiting for a
            free connection, if 5 seconds are more.
    """
    return create_async_engine(
        url,
        pool_size=pool_size,
        pool_timeout=min(patience, _CONNECTING),
        pool_pre_ping=ping,
        connect_args={
            "timeout": min(patience, _CONNECTING),
            "command_timeout": patience,
            "server_settings": {"application_name": "keylane"},
        },
    )


async def migrate(engine: AsyncEngine) -> None:
    """Bring the database to the newest version; any number of processes may do so at once.

    Raises:
        TransientError: The database is away.
    """
    with away():
        async with engine.begin() as connection:
            if await _revision(connection) == HEAD:
                return
            await connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            # Loaded where it is needed: Alembic costs 7 MiB and 0.1 s.
            await connection.run_sync(importlib.import_module("streams.adapters.migration").upgrade)


class DatabaseFacts(NamedTuple):
    """What there is: the server's version, the migration it is at, and the one it should be at."""

    version: str
    revision: str | None
    head: str


async def facts(engine: AsyncEngine) -> DatabaseFacts:
    """Look at the database; nothing is changed.

    Raises:
        TransientError: The database is away.
    """
    with away():
        async with engine.connect() as connection:
            version = (await connection.execute(text("SHOW server_version"))).scalar_one()
            revision = await _revision(connection)
    return DatabaseFacts(version, revision, HEAD)


async def _revision(connection: AsyncConnection) -> str | None:
    if await connection.scalar(select(func.to_regclass(VERSION_TABLE))) is None:
        return None
    found: str | None = await connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return found


async def now(engine: AsyncEngine) -> float:
    """The database's clock, seconds since the epoch.

    Raises:
        TransientError: The database is away.
    """
    with away():
        async with engine.connect() as connection:
            found = await connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))
            return float(found.scalar_one())


async def ping(engine: AsyncEngine) -> None:
    """Ask the database for a sign of life.

    Raises:
        TransientError: The database is away.
    """
    with away():
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))


class SqlHistory:
    """The ``JobHistory`` port, and the writer behind it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, job_id: str, tenant: str | None = None) -> JobRow | None:
        """See ``streams.door.JobHistory.find``.

        Raises:
            TransientError: The database is away.
        """
        with away():
            async with self._engine.connect() as connection:
                found = (
                    (await connection.execute(_FIND, {"job_id": storable(job_id), "tenant": tenant})).mappings().first()
                )
        return None if found is None else JobRow(**{**found, "steps": steps.from_text(found["steps"])})

    async def page(self, filters: JobFilters, behind: Mark | None, most: int) -> list[JobRow]:
        """See ``streams.door.JobHistory.page``.

        Raises:
            TransientError: The database is away.
        """
        with away():
            async with self._engine.connect() as connection:
                found = await connection.execute(page_of(filters, behind, most))
                return [JobRow(**each) for each in found.mappings()]

    async def unfinished(self) -> dict[tuple[str, str], int]:
        """How many jobs of which queue are ``processing`` or ``retrying``; the others are not counted, being many.

        Raises:
            TransientError: The database is away.
        """
        with away():
            async with self._engine.connect() as connection:
                found = await connection.execute(_UNFINISHED)
        return {(queue, status): count for queue, status, count in found}

    async def store(self, rows: Sequence[JobRow]) -> None:
        """Merge rows into what is stored, in one statement.

        Raises:
            TransientError: The database is away.
        """
        # In one order in all processes, so that two of them never wait for each other.
        ordered = sorted(merged(rows), key=lambda row: row.identity)
        columns = {f"{name}s": [getattr(each, name) for each in ordered] for name in _NAMES}
        columns["stepss"] = [steps.to_text(each.steps) for each in ordered]
        with away():
            async with self._engine.begin() as connection:
                await connection.execute(_STORE, columns)


def history_work(engine: AsyncEngine) -> Work:
    """The projection: a batch handler for the records of ``job-status``, contract ``job.status``."""
    history = SqlHistory(engine)

    async def project(statuses: Sequence[Status], contexts: Sequence[Context]) -> None:
        del contexts
        await history.store([row(status) for status in statuses])

    return Work(handler=project, batch=_BATCH, retry=RetryPolicy(attempts=3, in_place=(0.2, 1.0)), timeout=60.0)


@contextmanager
def away() -> Iterator[None]:
    """Turn a database that is away into a TransientError; a statement it refuses stays an error."""
    try:
        yield
    except (DBAPIError, PostgresError, PoolTimeoutError, OSError, TimeoutError) as error:
        # SQLAlchemy's own text would repeat the statement with its parameters.
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not _is_away(error, cause):
            raise
        raise TransientError(f"PostgreSQL is away: {type(cause).__name__}: {cause}") from error


def _is_away(error: Exception, cause: BaseException | None) -> bool:
    if isinstance(error, DBAPIError) and (error.connection_invalidated or isinstance(error, InterfaceError)):
        return True
    state = getattr(cause, "sqlstate", None)
    return state[:2] in _AWAY if state else isinstance(error, PoolTimeoutError | OSError | TimeoutError)


def page_of(filters: JobFilters, behind: Mark | None, most: int) -> Select[Any]:
    """The statement of a page; it reads one of the indexes backward, from where the page begins."""
    place = tuple_(JOBS.c.created_at, JOBS.c.job_id)
    found = select(*_shown(name for name in _NAMES if name != "steps"))
    for name in ("tenant", "type", "queue", "status", "key"):
        if (value := getattr(filters, name)) is not None:
            found = found.where(JOBS.c[name] == value)
    if filters.created_after is not None:
        found = found.where(JOBS.c.created_at >= filters.created_after)
    if filters.created_before is not None:
        found = found.where(JOBS.c.created_at < filters.created_before)
    if behind is not None:
        found = found.where(place < tuple_(literal(behind.created_at, BigInteger), literal(behind.job_id, Text)))
    return found.order_by(JOBS.c.created_at.desc(), JOBS.c.job_id.desc()).limit(most)


def _shown(names: Iterable[str]) -> list[ColumnElement[Any]]:
    """The columns, JSON as text."""
    return [cast(column, Text).label(column.name) if _is_json(column) else column for column in map(_column, names)]


def _find() -> Any:
    tenant = bindparam("tenant", type_=Text)
    mine = (JOBS.c.job_id == bindparam("job_id")) & (tenant.is_(None) | (JOBS.c.tenant == tenant))
    return select(*_shown(_NAMES)).where(mine).order_by(JOBS.c.updated_at.desc()).limit(1)


def _store() -> Insert:
    """One statement for any number of rows: a parameter per column, an array each."""
    new = insert(JOBS).from_select(_NAMES, select(*map(_unnested, _NAMES)))
    known, given = JOBS.c, new.excluded
    later = tuple_(given.sequence, -given.updated_at) > tuple_(known.sequence, -known.updated_at)
    told: dict[str, ColumnElement[Any]] = {
        "payload": func.coalesce(known.payload, given.payload),
        "partition": func.greatest(known.partition, given.partition),
        "offset": func.greatest(known.offset, given.offset),
        "created_at": func.least(known.created_at, given.created_at),
        "started_at": func.least(known.started_at, given.started_at),
        "steps": literal_column(steps.MERGED, JSONB),
    }
    decided = {
        name: case((later, given[name]), else_=known[name]) for name in _NAMES if name not in {*_IDENTITY, *told}
    }
    tells = [known[name].is_distinct_from(value) for name, value in told.items() if name != "steps"]
    changes = later | ~known.steps.contains(given.steps)
    for tell in tells:
        changes = changes | tell
    return new.on_conflict_do_update(index_elements=_IDENTITY, set_={**told, **decided}, where=changes)


def _unnested(name: str) -> ColumnElement[Any]:
    column = _column(name)
    kind = Text() if _is_json(column) else column.type
    values = func.unnest(cast(bindparam(f"{name}s"), ARRAY(kind)), type_=kind)
    return cast(values, JSONB) if _is_json(column) else values


def _column(name: str) -> Column[Any]:
    return JOBS.c[name]


def _is_json(column: Column[Any]) -> bool:
    return isinstance(column.type, JSONB)


_FIND = _find()
_UNFINISHED = (
    select(JOBS.c.queue, JOBS.c.status, func.count())
    .where(JOBS.c.status.in_(("processing", "retrying")))
    .group_by(JOBS.c.queue, JOBS.c.status)
)
_STORE = _store()

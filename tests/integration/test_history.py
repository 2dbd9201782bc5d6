from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from schemas.job_status.model import Status
from streams.adapters import migration
from streams.adapters.audit import AUDIT
from streams.adapters.effects import EFFECTS
from streams.adapters.keys import API_KEYS
from streams.adapters.sql import HEAD, METADATA, SqlHistory, connect, history_work, migrate, ping
from streams.dev import ports, postgres
from streams.dev.stack import Stack
from streams.history import MOST_STEPS, merged, row
from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

TIME = 1_700_000_000_000


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(database_url)
    await migrate(engine)
    yield engine
    await engine.dispose()


def status(job_id: str, state: str = "pending", *, attempt: int = 0, **changes: object) -> Status:
    fields = {
        "job_id": job_id,
        "type": "notification.signin",
        "queue": "emails",
        "tenant": "steppe",
        "key": "steppe/user-1",
        "status": state,
        "attempt": attempt,
        "replays": 0,
        "time": TIME,
        "topic": "jobs.emails",
        "partition": 3,
        "offset": 7,
    }
    return Status.model_validate(fields | changes)


def life(job_id: str) -> list[Status]:
    return [
        status(job_id, payload='{"a": 1}', partition=-1, offset=-1),
        status(job_id, "processing", attempt=1, time=TIME + 10, worker="w1"),
        status(job_id, "retrying", attempt=1, time=TIME + 20, error="boom", stack="Traceback", worker="w1"),
        status(job_id, "processing", attempt=2, time=TIME + 30, payload='{"a": 1}', worker="w2"),
        status(job_id, "completed", attempt=2, time=TIME + 40, result='{"sent": true}', worker="w2"),
    ]


async def test_many_processes_may_migrate_at_once(database_url: str, unique: Callable[[str], str]) -> None:
    name = unique("fresh").replace("-", "_")
    admin = connect(database_url)
    async with admin.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(
            text(f"CREATE DATABASE {name}")
        )
    engines = [connect(database_url.rpartition("/")[0] + "/" + name) for _ in range(5)]

    await asyncio.gather(*map(migrate, engines))
    await migrate(engines[0])

    async with engines[0].connect() as connection:
        assert (await connection.execute(text("SELECT version_num FROM keylane_version"))).scalars().all() == [HEAD]
        assert {EFFECTS.metadata, API_KEYS.metadata, AUDIT.metadata} == {METADATA}
        assert EFFECTS.metadata is METADATA
        assert await connection.run_sync(_differences) == []
    for engine in [admin, *engines]:
        await engine.dispose()


def test_the_version_that_needs_no_migration_is_the_newest() -> None:
    assert ScriptDirectory.from_config(migration.config()).get_heads() == [HEAD]


def test_what_a_worker_imports_holds_no_alembic() -> None:
    code = "import sys, streams.app.worker; sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"version_table": "keylane_version"})
    return list(compare_metadata(context, METADATA))


async def test_a_job_nobody_stored_is_not_found(engine: AsyncEngine, unique: Callable[[str], str]) -> None:
    assert await SqlHistory(engine).find(unique("nobody")) is None


async def test_the_projection_stores_what_the_statuses_say(engine: AsyncEngine, unique: Callable[[str], str]) -> None:
    job = unique("job")

    await history_work(engine).handler(life(job), [])

    found = await SqlHistory(engine).find(job)
    assert found is not None
    assert (found.status, found.attempt, found.worker, found.error) == ("completed", 2, "w2", None)
    assert json.loads(found.payload or "") == {"a": 1}
    assert json.loads(found.result or "") == {"sent": True}
    assert (found.created_at, found.started_at, found.finished_at) == (TIME, TIME + 10, TIME + 40)


async def test_unfinished_jobs_are_counted_by_queue(engine: AsyncEngine, unique: Callable[[str], str]) -> None:
    queue, history = unique("queue"), SqlHistory(engine)
    steps = ["processing", "processing", "retrying", "completed", "dead", "pending"]
    rows = [row(status(unique("job"), step, attempt=1, queue=queue)) for step in steps]
    await history.store(rows)
    counts = {step: count for (name, step), count in (await history.unfinished()).items() if name == queue}
    assert counts == {"processing": 2, "retrying": 1}


@hypothesis(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(choices=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=5))
async def test_sql_merges_as_the_model_does(
    engine: AsyncEngine, unique: Callable[[str], str], choices: list[list[int]]
) -> None:
    job = unique("job")
    statuses = life(job)
    batches = [[statuses[choice] for choice in batch] for batch in choices]
    history = SqlHistory(engine)

    for batch in batches:
        await history.store([row(status) for status in batch])

    (expected,) = merged(row(status) for batch in batches for status in batch)
    assert await history.find(job) == expected


async def test_of_many_attempts_the_latest_are_kept_as_the_model_keeps_them(
    engine: AsyncEngine, unique: Callable[[str], str]
) -> None:
    job, history = unique("long"), SqlHistory(engine)
    runs = [status(job, "completed", attempt=n, time=TIME + n, started=TIME, error="ж" * 400) for n in range(1, 150)]
    random.Random(1).shuffle(runs)
    for begin in range(0, len(runs), 40):
        await history.store([row(run) for run in runs[begin : begin + 40]])
        await history.store([row(run) for run in runs[:begin]])

    (expected,) = merged(map(row, runs))
    found = await history.find(job)
    assert found == expected
    assert len(found.attempts) == MOST_STEPS


async def test_a_tenants_job_is_its_own_whatever_id_another_chose(
    engine: AsyncEngine, unique: Callable[[str], str]
) -> None:
    job, history = unique("same"), SqlHistory(engine)
    await history.store([row(each) for each in life(job)])
    await history.store([row(status(job, tenant="taiga", key="taiga/x", time=TIME + 99, payload='"mine"'))])

    mine, theirs, any_of_them = [await history.find(job, tenant) for tenant in ("taiga", "steppe", None)]
    assert mine is not None
    assert theirs is not None
    assert (mine.status, mine.payload, theirs.status, theirs.payload) == ("pending", '"mine"', "completed", '{"a": 1}')
    assert any_of_them == mine
    assert await history.find(job, "nobody") is None


async def test_a_large_batch_of_many_jobs_with_twins_is_one_statement(
    engine: AsyncEngine, unique: Callable[[str], str]
) -> None:
    prefix = unique("many")
    statuses = [each for n in range(1_000) for each in life(f"{prefix}-{n}")]
    random.Random(1).shuffle(statuses)
    history = SqlHistory(engine)

    await history.store([row(status) for status in statuses])

    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT status, count(*) FROM jobs WHERE job_id LIKE :prefix GROUP BY status"),
            {"prefix": f"{prefix}%"},
        )
        assert list(rows) == [("completed", 1_000)]


async def test_projections_side_by_side_do_not_block_each_other(
    engine: AsyncEngine, unique: Callable[[str], str]
) -> None:
    prefix = unique("side")
    history = SqlHistory(engine)
    jobs = [f"{prefix}-{n}" for n in range(200)]

    await asyncio.gather(
        *(history.store([row(life(job)[step]) for job in random.Random(step).sample(jobs, 200)]) for step in range(5))
    )

    found = await asyncio.gather(*(history.find(job) for job in jobs[:20]))
    assert {each.status for each in found if each} == {"completed"}


@pytest.mark.parametrize("payload", ['"\\u0000"', '{"k\\ud800": 1}', "NaN", "1" * 5_000])
async def test_hostile_payloads_are_stored(engine: AsyncEngine, unique: Callable[[str], str], payload: str) -> None:
    job = unique("hostile")

    await SqlHistory(engine).store([row(status(job, payload=payload, error="nul \x00"))])

    assert await SqlHistory(engine).find(job) is not None


async def test_a_row_the_database_refuses_is_an_error_of_the_record(engine: AsyncEngine) -> None:
    too_long = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))

    with pytest.raises(DBAPIError):
        await SqlHistory(engine).store([row(status(too_long))])


async def test_a_database_that_is_away_is_transient_and_comes_back(tmp_path: Path) -> None:
    port = ports.any_free()
    stack = Stack(tmp_path, parts=("postgres",), asked={"postgres": port})
    await stack.astart()
    engine = connect(postgres.url(port))
    history = SqlHistory(engine)
    await migrate(engine)
    await history.store([row(status("kept"))])

    await stack.astop()
    with pytest.raises(TransientError, match="PostgreSQL is away"):
        await history.find("kept")
    with pytest.raises(TransientError):
        await ping(engine)
    await stack.astart()

    assert await history.find("kept") is not None
    await engine.dispose()
    await stack.astop()

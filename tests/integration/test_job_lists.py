"""Lists of jobs from PostgreSQL: the right pages, and from an index, however many jobs there are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from schemas.job_status.model import Status
from streams.adapters.sql import SqlHistory, connect, migrate, page_of
from streams.history import JobFilters, Mark, row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

TIME = 1_700_000_000_000
JOBS = 100_000


FILL = text("""
    INSERT INTO jobs (job_id, type, queue, tenant, key, status, sequence, attempt, replays, topic, partition,
        "offset", created_at, updated_at)
    SELECT 'job-' || n, 'type-' || n / 50 % 20, 'queue-' || n % 5, 'tenant-' || n % 50,
        'tenant-' || n % 50 || '/key-' || n % 5000,
        CASE WHEN n % 1000 = 0 THEN 'dead' ELSE 'completed' END, 1, 1, 0, 'jobs.q', 0, n,
        CAST(:time AS bigint) + n / 3, CAST(:time AS bigint)
    FROM generate_series(1, CAST(:jobs AS int)) AS n
""")


@pytest.fixture(scope="module")
def filled(database_url: str) -> str:
    """A database of its own with very many jobs."""
    url = database_url.rpartition("/")[0] + "/lists"

    async def fill() -> None:
        admin, engine = connect(database_url), connect(url)
        async with admin.connect() as connection:
            plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await plain.execute(text("CREATE DATABASE lists"))
        await migrate(engine)
        async with engine.begin() as connection:
            await connection.execute(FILL, {"time": TIME, "jobs": JOBS})
        async with engine.connect() as connection:
            plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await plain.execute(text("VACUUM ANALYZE jobs"))
        await engine.dispose()
        await admin.dispose()

    asyncio.run(fill())
    return url


@pytest.fixture
async def engine(filled: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(filled)
    yield engine
    await engine.dispose()


FILTERS = [
    {},
    {"tenant": "tenant-7"},
    {"type": "type-3"},
    {"queue": "queue-1"},
    {"status": "dead"},
    {"status": "completed"},
    {"key": "tenant-7/key-57"},
    {"tenant": "tenant-7", "status": "completed"},
    {"tenant": "tenant-0", "status": "dead"},
    {"tenant": "tenant-7", "type": "type-7"},
    {"tenant": "tenant-7", "key": "tenant-7/key-57"},
    {"created_after": TIME + 30_000, "created_before": TIME + 31_000},
    {"tenant": "tenant-7", "created_before": TIME + 2_000},
]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("behind", [None, Mark(TIME + 20_000, "job-5")])
async def test_a_page_comes_from_an_index_and_touches_a_part_of_the_table(
    engine: AsyncEngine, filters: dict[str, Any], behind: Mark | None
) -> None:
    statement = page_of(JobFilters(**filters), behind, 101).compile(
        dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
    )
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".replace(":", "\\:")
    async with engine.connect() as connection:
        ((found,),) = await connection.execute(text(explain))
        pages = await connection.scalar(text("SELECT pg_relation_size('jobs') / 8192"))
    plan = found[0]["Plan"]

    kinds = set(nodes(plan))
    assert kinds & {"Index Scan", "Bitmap Index Scan"}, kinds
    assert "Seq Scan" not in kinds
    # Of two restrictions one may be looked up and the other looked at; records of a tenant lie far apart here.
    share = 4 if len(filters) < 2 else 1
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < pages / share, plan


def nodes(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["Node Type"]
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def test_pages_one_after_the_other_are_the_whole_list(engine: AsyncEngine) -> None:
    history, filters = SqlHistory(engine), JobFilters(tenant="tenant-7", type="type-7")
    found: list[str] = []
    behind: Mark | None = None
    while page := await history.page(filters, behind, 97):
        found += [each.job_id for each in page]
        behind = Mark(page[-1].created_at, page[-1].job_id)

    numbers = [n for n in range(1, JOBS + 1) if n % 50 == 7 and n // 50 % 20 == 7]
    assert found == [f"job-{n}" for n in sorted(numbers, key=lambda n: (TIME + n // 3, f"job-{n}"), reverse=True)]


async def test_a_job_that_comes_meanwhile_moves_no_other(engine: AsyncEngine, unique: Callable[[str], str]) -> None:
    history, filters = SqlHistory(engine), JobFilters(key="tenant-9/key-9")
    first = await history.page(filters, None, 5)
    behind = Mark(first[-1].created_at, first[-1].job_id)
    second = await history.page(filters, behind, 5)
    fields = {"job_id": unique("new"), "type": "t", "queue": "q", "tenant": "tenant-9", "key": "tenant-9/key-9"}
    places = {"topic": "jobs.q", "partition": 0, "offset": 1}
    late = Status(**fields, **places, status="pending", attempt=0, replays=0, time=TIME * 2)  # type: ignore[arg-type]
    await history.store([row(late)])

    assert (await history.page(filters, None, 5))[0].job_id == fields["job_id"]
    assert await history.page(filters, behind, 5) == second

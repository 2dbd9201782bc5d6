"""The effect ledger in PostgreSQL: the ``EffectLedger`` port.

Invariant: every method is one statement, committed when it returns; times are the server's alone. Runs that begin or
end together share a statement: while one is under way, the next ones gather.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Index, Integer, Sequence, Table, Text, text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.exc import DBAPIError

from streams.adapters.sql import METADATA, away
from streams.core.effects import Standing
from streams.job import TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sqlalchemy.ext.asyncio import AsyncEngine

    from streams.ports import Claim, Intent

    Key = tuple[str, str]
    Row = tuple[Any, ...]
    Answers = Mapping[Key, Any]

_TIME = TIMESTAMP(timezone=True)
EFFECTS = Table(
    "effects",
    METADATA,
    Column("group_name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("replays", Integer, nullable=False),
    Column("started_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("unsettled_until", _TIME),
    Column("finished_at", _TIME),
    Column("result", Text),
    Index("effects_started", "started_at"),
)
TOKENS = Sequence("effect_token", metadata=METADATA)

_MOST = 500  # rows of one statement
_FORGOTTEN = 1_000  # rows one statement deletes

_BEGIN = text("""
    INSERT INTO effects
        (group_name, key, token, digest, owner, runs, replays, started_at, updated_at, unsettled_until)
    SELECT group_name, key, nextval('effect_token'), digest, owner, 1, replays, clock_timestamp(), clock_timestamp(),
        clock_timestamp() + make_interval(secs => armed)
    FROM unnest(CAST(:p0 AS text[]), CAST(:p1 AS text[]), CAST(:p2 AS text[]), CAST(:p3 AS text[]),
        CAST(:p4 AS int[]), CAST(:p5 AS float8[])) AS given (group_name, key, digest, owner, replays, armed)
    ON CONFLICT (group_name, key) DO UPDATE SET
        token = CASE WHEN effects.finished_at IS NULL AND effects.digest = excluded.digest
            THEN nextval('effect_token') ELSE effects.token END,
        owner = CASE WHEN effects.finished_at IS NULL AND effects.digest = excluded.digest
            THEN excluded.owner ELSE effects.owner END,
        runs = effects.runs + 1,
        updated_at = clock_timestamp()
    RETURNING group_name, key, token, digest, runs, replays, finished_at IS NOT NULL AS finished, result,
        CAST(extract(epoch FROM unsettled_until - clock_timestamp()) AS float8) AS unsettled
""")
_ARM = text("""
    UPDATE effects SET unsettled_until = clock_timestamp() + make_interval(secs => given.seconds),
        replays = given.replays, updated_at = clock_timestamp()
    FROM unnest(CAST(:p0 AS text[]), CAST(:p1 AS text[]), CAST(:p2 AS bigint[]), CAST(:p3 AS float8[]),
        CAST(:p4 AS int[])) AS given (group_name, key, token, seconds, replays)
    WHERE effects.group_name = given.group_name AND effects.key = given.key AND effects.token = given.token
        AND effects.finished_at IS NULL
    RETURNING effects.group_name, effects.key, true AS ours
""")
_RELEASE = text("""
    UPDATE effects SET unsettled_until = clock_timestamp() + make_interval(secs => given.seconds),
        updated_at = clock_timestamp()
    FROM unnest(CAST(:p0 AS text[]), CAST(:p1 AS text[]), CAST(:p2 AS bigint[]), CAST(:p3 AS float8[]))
        AS given (group_name, key, token, seconds)
    WHERE effects.group_name = given.group_name AND effects.key = given.key AND effects.token = given.token
        AND effects.finished_at IS NULL
    RETURNING effects.group_name, effects.key, true AS ours
""")
_FINISH = text("""
    UPDATE effects SET result = given.result, unsettled_until = NULL, finished_at = clock_timestamp(),
        updated_at = clock_timestamp()
    FROM unnest(CAST(:p0 AS text[]), CAST(:p1 AS text[]), CAST(:p2 AS bigint[]), CAST(:p3 AS text[]))
        AS given (group_name, key, token, result)
    WHERE effects.group_name = given.group_name AND effects.key = given.key AND effects.finished_at IS NULL
    RETURNING effects.group_name, effects.key, effects.token = given.token AS ours
""")
_FORGET = text("""
    DELETE FROM effects WHERE (group_name, key) IN (
        SELECT group_name, key FROM effects
        WHERE started_at < now() - make_interval(secs => :age) AND updated_at < now() - make_interval(secs => :age)
            AND (finished_at IS NOT NULL OR unsettled_until IS NULL)
        ORDER BY started_at LIMIT :most FOR UPDATE SKIP LOCKED)
""")


class SqlEffects:
    """The ``EffectLedger`` port.

    Args:
        engine: Best one of its own, without pings: each run waits for it, and handlers must not use it up.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._begin = _Together(lambda rows: self._sent(_BEGIN, rows))
        self._arm = _Together(lambda rows: self._sent(_ARM, rows))
        self._release = _Together(lambda rows: self._sent(_RELEASE, rows))
        self._finish = _Together(lambda rows: self._sent(_FINISH, rows))

    async def begin(self, intent: Intent) -> Standing:
        """See the port."""
        group, key, digest, owner, replays, armed = intent
        found = await self._begin.do((group, _storable(key), digest, owner, replays, armed))
        return Standing(
            token=found.token,
            new=found.runs == 1,
            same=found.digest == digest,
            finished=found.finished,
            result=found.result,
            unsettled=found.unsettled,
            replays=found.replays,
        )

    async def arm(self, claim: Claim, seconds: float, replays: int) -> bool:
        """See the port."""
        return _ours(await self._arm.do((claim.group, _storable(claim.key), claim.token, seconds, replays)))

    async def release(self, claim: Claim, seconds: float | None) -> bool:
        """See the port."""
        return _ours(await self._release.do((claim.group, _storable(claim.key), claim.token, seconds)))

    async def finish(self, claim: Claim, result: str) -> bool:
        """See the port."""
        return _ours(await self._finish.do((claim.group, _storable(claim.key), claim.token, result)))

    async def forget(self, age: float) -> None:
        """See the port."""
        deleted = _FORGOTTEN
        while deleted == _FORGOTTEN:
            with away():
                async with self._engine.connect() as connection:
                    deleted = (await connection.execute(_FORGET, {"age": age, "most": _FORGOTTEN})).rowcount

    async def _sent(self, statement: Any, rows: list[Row]) -> Answers:
        # In one order in all processes, so that two of them never wait for each other.
        columns = zip(*sorted(rows, key=lambda row: row[:2]), strict=True)
        parameters = {f"p{number}": list(column) for number, column in enumerate(columns)}
        try:
            with away():
                async with self._engine.connect() as connection:
                    found = await connection.execute(statement, parameters)
                    return {(row.group_name, row.key): row for row in found}
        except DBAPIError as error:  # not away, but no record is at fault that the ledger is not as it should be
            raise TransientError(f"the effect ledger refuses: {error.orig}") from error


class _Together:
    """Sends rows, those of one key one after the other, as many at once as wait while a statement is under way."""

    def __init__(self, send: Callable[[list[Row]], Awaitable[Answers]]) -> None:
        self._send = send
        self._waiting: list[tuple[Row, asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def do(self, row: Row) -> Any:
        """What came back for the row, None for nothing."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((row, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._one()
        finally:
            self._task = None

    async def _one(self) -> None:
        batch = self._taken()
        if not batch:
            return
        try:
            found = await self._send([row for row, _ in batch.values()])
        except Exception as error:  # noqa: BLE001 - whatever it was, each of those who wait is told
            for _, answer in batch.values():
                _tell(answer, error)
            return
        for key, (_, answer) in batch.items():
            if not answer.done():
                answer.set_result(found.get(key))

    def _taken(self) -> dict[Key, tuple[Row, asyncio.Future[Any]]]:
        batch: dict[Key, tuple[Row, asyncio.Future[Any]]] = {}
        left = []
        for row, answer in self._waiting:
            if answer.done():
                continue  # cancelled before it was sent
            if len(batch) < _MOST and row[:2] not in batch:
                batch[row[:2]] = row, answer
            else:
                left.append((row, answer))
        self._waiting = left
        return batch


def _tell(answer: asyncio.Future[Any], error: Exception) -> None:
    if answer.done():
        return
    own = copy.copy(error)  # an exception raised in many tasks would gather all of their tracebacks
    own.__cause__ = error
    answer.set_exception(own)


def _ours(found: Any) -> bool:
    return found is not None and bool(found.ours)


def _storable(value: str) -> str:
    """The text without what PostgreSQL does not hold (NUL, halves of surrogate pairs); two texts stay two."""
    return value.replace("\\", "\\\\").replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()

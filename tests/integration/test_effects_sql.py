"""The effect ledger on PostgreSQL: tokens rise and fence, ends are kept, and many rows share a statement."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url, text

from streams.adapters.effects import SqlEffects
from streams.adapters.sql import connect, migrate
from streams.dev import ports
from streams.job import TransientError
from streams.ports import Claim, Intent
from tests.chaos.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = connect(database_url)
    await migrate(engine)
    yield engine
    await engine.dispose()


@pytest.fixture
def ledger(engine: AsyncEngine) -> SqlEffects:
    return SqlEffects(engine)


def intent(key: str, **changes: Any) -> Intent:
    return Intent(group="g", key=key, digest="d", owner="me", replays=0, armed=5.0)._replace(**changes)


async def test_the_first_run_finds_nothing_and_the_next_one_takes_a_greater_token(ledger, unique) -> None:
    key = unique("k")
    first = await ledger.begin(intent(key))
    second = await ledger.begin(intent(key))
    assert (first.new, second.new) == (True, False)
    assert second.token > first.token
    assert second.unsettled is not None
    assert 0 < second.unsettled <= 5


async def test_who_was_taken_over_may_not_send_any_more(ledger, unique) -> None:
    key = unique("k")
    zombie = Claim("g", key, (await ledger.begin(intent(key))).token)
    owner = Claim("g", key, (await ledger.begin(intent(key))).token)
    assert not await ledger.arm(zombie, 5, 0)
    assert await ledger.arm(owner, 5, 0)
    assert not await ledger.release(zombie, None)
    assert (await ledger.begin(intent(key))).unsettled is not None, "the zombie's word changed nothing"


async def test_an_outcome_is_kept_whoever_brings_it_and_the_first_one_stays(ledger, unique) -> None:
    key = unique("k")
    zombie = Claim("g", key, (await ledger.begin(intent(key))).token)
    owner = Claim("g", key, (await ledger.begin(intent(key))).token)
    assert not await ledger.finish(zombie, '{"paid": 1}')
    assert not await ledger.arm(owner, 5, 0), "there is nothing left to do"
    assert not await ledger.finish(owner, '{"paid": 2}')
    again = await ledger.begin(intent(key))
    assert (again.finished, again.result, again.token) == (True, '{"paid": 1}', owner.token)


async def test_a_run_that_sent_nothing_leaves_nothing_to_settle(ledger, unique) -> None:
    key = unique("k")
    claim = Claim("g", key, (await ledger.begin(intent(key))).token)
    assert await ledger.release(claim, None)
    assert (await ledger.begin(intent(key))).unsettled is None
    assert (await ledger.begin(intent(unique("l"), armed=None))).unsettled is None


async def test_what_a_failed_run_sent_settles_from_its_end_on(ledger, unique) -> None:
    key = unique("k")
    claim = Claim("g", key, (await ledger.begin(intent(key, armed=500.0))).token)
    assert await ledger.release(claim, 0.5)
    unsettled = (await ledger.begin(intent(key))).unsettled
    assert unsettled is not None
    assert unsettled <= 0.5


async def test_arming_notes_the_replay_it_was_allowed_for(ledger, unique) -> None:
    key = unique("k")
    await ledger.begin(intent(key))
    standing = await ledger.begin(intent(key, replays=2))
    assert standing.replays == 0
    assert await ledger.arm(Claim("g", key, standing.token), 5, 2)
    assert (await ledger.begin(intent(key, replays=2))).replays == 2


async def test_another_record_with_the_same_id_takes_nothing(ledger, unique) -> None:
    key = unique("k")
    first = await ledger.begin(intent(key))
    other = await ledger.begin(intent(key, digest="other"))
    assert (other.same, other.token) == (False, first.token)
    assert await ledger.arm(Claim("g", key, first.token), 5, 0)


async def test_ids_may_hold_any_character_and_stay_apart(ledger, unique) -> None:
    name = unique("k")
    keys = [name + tail for tail in ("\x00", "\\0", "\\\\0", "\ud800", "\\ud800", "é", "'")]
    assert [(await ledger.begin(intent(key))).new for key in keys] == [True] * len(keys)
    assert not any([(await ledger.begin(intent(key))).new for key in keys])


async def test_a_thousand_runs_at_once_share_statements_and_none_gets_anothers_answer(ledger, engine, unique) -> None:
    name = unique("k")
    sent: list[int] = []
    send = ledger._sent

    async def counting(statement: Any, rows: Any) -> Any:
        sent.append(len(rows))
        return await send(statement, rows)

    ledger._sent = counting
    standings = await asyncio.gather(*(ledger.begin(intent(f"{name}{n}")) for n in range(1000)))
    claims = [Claim("g", f"{name}{n}", standing.token) for n, standing in enumerate(standings)]
    assert len({claim.token for claim in claims}) == 1000
    assert all(await asyncio.gather(*(ledger.finish(claim, str(n)) for n, claim in enumerate(claims))))
    found = await asyncio.gather(*(ledger.begin(intent(f"{name}{n}")) for n in range(1000)))
    assert [standing.result for standing in found] == [str(n) for n in range(1000)]
    assert sum(sent) == 3000
    assert len(sent) <= 12


async def test_a_run_that_was_cancelled_while_it_waited_for_the_ledger_holds_nobody_up(ledger, unique) -> None:
    busy = asyncio.ensure_future(ledger.begin(intent(unique("k"))))
    given_up = asyncio.ensure_future(ledger.begin(intent(unique("k"))))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    assert (await busy).new
    assert (await ledger.begin(intent(unique("k")))).new


async def test_a_ledger_that_is_not_as_it_should_be_makes_keys_wait_and_no_dead_letters(database_url, unique) -> None:
    name = unique("empty").replace("-", "_")
    admin = connect(database_url)
    async with admin.connect() as connection:
        plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await plain.execute(text(f"CREATE DATABASE {name}"))
    bare = connect(database_url.rpartition("/")[0] + "/" + name)
    with pytest.raises(TransientError, match="the effect ledger refuses"):
        await SqlEffects(bare).begin(intent("k"))
    await bare.dispose()
    await admin.dispose()


async def test_a_connection_that_fell_silent_is_given_up_and_the_next_question_gets_a_new_one(
    ledger, database_url, unique
) -> None:
    del ledger  # it has made the tables
    url, port = make_url(database_url), ports.any_free()
    async with Proxy(port, url.port or 0) as proxy:
        engine = connect(url.set(port=port), ping=False, patience=0.3)
        distant = SqlEffects(engine)
        assert (await distant.begin(intent(unique("k")))).new
        proxy.half_open()
        async with asyncio.timeout(10):
            with pytest.raises(TransientError):
                await distant.begin(intent(unique("k")))
            assert (await distant.begin(intent(unique("k")))).new
        await engine.dispose()


async def test_two_runs_of_one_key_begin_one_after_the_other(ledger, unique) -> None:
    key = unique("k")
    found = await asyncio.gather(*(ledger.begin(intent(key)) for _ in range(5)))
    assert [standing.new for standing in found] == [True, False, False, False, False]
    assert len({standing.token for standing in found}) == 5


async def test_old_ends_are_forgotten_and_unknown_outcomes_never(ledger, engine, unique) -> None:
    name = unique("k")
    done, nothing, unknown, young = [Claim("g", f"{name}{n}", 0) for n in range(4)]
    for claim in (done, nothing, unknown, young):
        token = (await ledger.begin(intent(claim.key))).token
        if claim in {done, young}:
            await ledger.finish(claim._replace(token=token), "null")
        if claim is nothing:
            await ledger.release(claim._replace(token=token), None)
    async with engine.begin() as connection:
        old = text(
            "UPDATE effects SET started_at = started_at - interval '9 days', updated_at = updated_at "
            "- interval '9 days' WHERE key = ANY(:keys)"
        )
        await connection.execute(old, {"keys": [done.key, nothing.key, unknown.key]})
    await ledger.forget(8 * 86_400)
    assert [(await ledger.begin(intent(c.key))).new for c in (done, nothing, unknown, young)] == [
        True,
        True,
        False,
        False,
    ]

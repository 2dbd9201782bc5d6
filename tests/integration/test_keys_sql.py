from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text, update

from streams.adapters import audit as adapter
from streams.adapters import sql
from streams.adapters.audit import AUDIT, SqlAudit
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.adapters.keys import API_KEYS, SqlKeys
from streams.adapters.nonces import RedisNonces
from streams.adapters.redis import RedisAwayError, connect
from streams.adapters.vault import Vault, masters, new_master
from streams.app.audit import verify
from streams.audit import Act, Chain
from streams.dev import ports
from streams.gateway.keycache import VALID, KeyCache
from streams.job import TransientError
from streams.keys import Issued, Order, issue
from streams.topics import Topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from streams.audit import Entry
    from streams.settings import Settings

VAULT = Vault(masters(new_master("tests")))
ACT = Act(who="me", what="keys.create", target="api_keys/x", tenant="steppe", source="cli", after={"name": "Бат\x00"})


@pytest.fixture
async def engine(database_url: str, unique: Callable[[str], str]) -> AsyncIterator[AsyncEngine]:
    """A database of its own: the trail is one per database."""
    name = unique("trail").replace("-", "_")
    admin = sql.connect(database_url).execution_options(isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await admin.dispose()
    made = sql.connect(f"{database_url.rpartition('/')[0]}/{name}")
    await sql.migrate(made)
    yield made
    await made.dispose()


def new_key(**changes: Any) -> Issued:
    order = Order(**{"name": "ours", "scopes": frozenset({"jobs:write"}), "tenant": "steppe", **changes})
    return issue(order, VAULT, by="me", now=time.time_ns() // 1_000_000)


async def trail(audit: SqlAudit) -> list[Entry]:
    return [entry async for entry, _ in audit.entries()]


async def test_a_key_is_stored_with_its_act_and_read_as_it_was(engine: AsyncEngine) -> None:
    audit = SqlAudit(engine, VAULT)
    keys = SqlKeys(engine, audit)
    first, second = new_key(), new_key(tenant=None, scopes=frozenset({"admin", "jobs:read"}))
    for issued in (first, second):
        await keys.add(issued.key, ACT)
    assert await keys.find([first.key.prefix, second.key.prefix, "nobody"]) == {
        first.key.prefix: first.key,
        second.key.prefix: second.key,
    }
    assert [key.prefix for key in await keys.all("steppe")] == [first.key.prefix]
    assert len(await keys.all(None)) == 2
    assert len(await trail(audit)) == 2

    at = first.key.created_at + 1
    assert (await keys.revoke(first.key.revoked(at), ACT)).revoked_at == at
    assert (await keys.revoke(first.key.revoked(at + 99), ACT)).revoked_at == at, "the first one counts"
    assert len(await trail(audit)) == 3


async def test_nothing_that_is_stored_holds_a_secret(engine: AsyncEngine) -> None:
    keys = SqlKeys(engine, SqlAudit(engine, VAULT))
    issued = new_key()
    await keys.add(issued.key, replace(ACT, after=issued.key.described()))
    async with engine.connect() as connection:
        kept = [*(await connection.execute(select(API_KEYS))), *(await connection.execute(select(AUDIT)))]
    told = repr(kept)
    for secret in (issued.text, issued.text.rpartition("_")[2], issued.signing_secret):
        assert secret not in told
        assert secret.encode().hex() not in told


async def test_a_key_whose_act_cannot_be_written_down_is_not_made(engine: AsyncEngine) -> None:
    audit = SqlAudit(engine, VAULT)
    keys = SqlKeys(engine, audit)
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE audit RENAME TO elsewhere"))
    issued = new_key()
    with pytest.raises(Exception, match="audit"):
        await keys.add(issued.key, ACT)
    assert await keys.find([issued.key.prefix]) == {}


async def test_the_database_itself_refuses_a_key_without_tenant_that_is_no_admins(engine: AsyncEngine) -> None:
    key = replace(new_key().key, tenant=None)
    with pytest.raises(Exception, match="api_keys_tenant"):
        await SqlKeys(engine, SqlAudit(engine, VAULT)).add(key, ACT)


async def test_a_database_that_is_away_is_told_as_such() -> None:
    engine = sql.connect(f"postgresql+asyncpg://nobody@127.0.0.1:{ports.any_free()}/none")
    keys = SqlKeys(engine, SqlAudit(engine, VAULT))
    with pytest.raises(TransientError):
        await keys.find(["a"])
    with pytest.raises(TransientError):
        await keys.add(new_key().key, ACT)
    await engine.dispose()


async def test_a_key_revoked_by_one_process_is_refused_by_another_within_five_seconds(engine: AsyncEngine) -> None:
    now = 100.0
    here, there = SqlKeys(engine, SqlAudit(engine, VAULT)), SqlKeys(engine, SqlAudit(engine, VAULT))
    cache = KeyCache(there, clock=lambda: now)
    issued = new_key()
    await here.add(issued.key, ACT)
    held = await cache.find(issued.key.prefix)
    assert held is not None
    assert held.key.revoked_at is None

    await here.revoke(issued.key.revoked(1), ACT)
    now += VALID
    assert VALID < 5
    held = await cache.find(issued.key.prefix)
    assert held is not None
    assert held.key.revoked_at == 1
    await cache.close()


async def test_writers_at_once_make_one_chain(engine: AsyncEngine, database_url: str) -> None:
    other = sql.connect(engine.url)
    writers = [SqlAudit(engine, VAULT), SqlAudit(other, VAULT)]
    await asyncio.gather(*(writers[n % 2].record(replace(ACT, request_id=str(n))) for n in range(60)))
    chain, entries = Chain(VAULT), await trail(writers[0])
    assert [chain.fault(entry) for entry in entries] == [None] * 60
    assert {entry.members["request_id"] for entry in entries} == set(map(str, range(60)))
    assert [entry.sequence for entry in await writers[1].newest(3)] == [60, 59, 58]
    await other.dispose()


class Trail:
    """A trail with its copy in a topic of its own."""

    def __init__(self, engine: AsyncEngine, settings: Settings, topic: str) -> None:
        self.engine = engine
        self.topic = topic
        self.audit = SqlAudit(engine, VAULT)
        self.publisher = KafkaPublisher(client_options(settings))
        self.reader = KafkaLogReader(client_options(settings))

    async def fault(self) -> str | None:
        return (await verify(self.audit, self.reader, VAULT)).fault

    async def change(self, statement: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(statement)


@pytest.fixture
async def copied(
    engine: AsyncEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch, unique: Callable[[str], str]
) -> AsyncIterator[Trail]:
    topic = unique("audit")
    monkeypatch.setattr(adapter, "_PAGE", 2)  # every trail has more than one page
    for module in ("streams.adapters.audit", "streams.app.audit"):
        monkeypatch.setattr(f"{module}.TOPIC", topic)
    admin = TopicAdmin(client_options(settings))
    await admin.apply(await admin.plan([Topic(name=topic, partitions=1)]))
    made = Trail(engine, settings, topic)
    yield made
    await made.publisher.stop()


async def test_the_topic_has_what_the_database_has_and_what_waits_is_no_fault(copied: Trail) -> None:
    for _ in range(3):
        await copied.audit.record(ACT)
    assert await verify(copied.audit, copied.reader, VAULT) == (3, 3, None)
    assert await copied.audit.publish(copied.publisher) == 3
    assert await copied.audit.publish(copied.publisher) == 0
    await copied.audit.record(ACT)
    assert await verify(copied.audit, copied.reader, VAULT) == (4, 1, None)


async def test_a_crash_between_publishing_and_noting_it_publishes_twice_and_breaks_nothing(copied: Trail) -> None:
    await copied.audit.record(ACT)
    await copied.audit.publish(copied.publisher)
    await copied.change(update(AUDIT).values(published=False))
    assert await copied.audit.publish(copied.publisher) == 1
    assert await verify(copied.audit, copied.reader, VAULT) == (1, 0, None)


async def test_gateways_that_publish_at_once_keep_the_order(copied: Trail, settings: Settings) -> None:
    for _ in range(30):
        await copied.audit.record(ACT)
    other = SqlAudit(copied.engine, VAULT)
    counts = await asyncio.gather(*(audit.publish(copied.publisher) for audit in (copied.audit, other) * 3))
    while await copied.audit.publish(copied.publisher):
        pass
    assert sum(counts) <= 30
    start, end = await copied.reader.starts([copied.topic]), await copied.reader.ends([copied.topic])
    found = [adapter.published_entry(one).sequence async for batch in copied.reader.read(start, end) for one in batch]
    assert found == list(range(1, 31))


async def test_the_first_record_that_differs_is_named_wherever_it_was_changed(copied: Trail) -> None:
    for _ in range(5):
        await copied.audit.record(ACT)
    await copied.audit.publish(copied.publisher)
    assert await copied.fault() is None

    entry = (await trail(copied.audit))[2]
    forged = json.dumps(entry.members | {"who": "somebody else"}, sort_keys=True, separators=(",", ":"))
    third = AUDIT.c.sequence == 3
    await copied.change(update(AUDIT).where(third).values(record=forged))
    assert await copied.fault() == "in the database, record 3 was changed, or the record before it was"
    await copied.change(update(AUDIT).where(third).values(record=entry.record))
    assert await copied.fault() is None

    await copied.change(AUDIT.delete().where(AUDIT.c.sequence == 5))
    assert await copied.fault() == "record 5 is in the topic and not in the database"


async def test_a_record_the_topic_lacks_or_has_otherwise_is_named(copied: Trail) -> None:
    for _ in range(2):
        await copied.audit.record(ACT)
    await copied.change(update(AUDIT).values(published=True))
    assert await copied.fault() == "record 1 is in the database and not in the topic"
    await copied.change(update(AUDIT).values(published=False))
    await copied.audit.publish(copied.publisher)

    whole = (await trail(copied.audit))[1]
    await copied.publisher.publish(adapter.message(whole._replace(record=whole.record.replace("me", "you"))))
    assert await copied.fault() == "in the topic, offset 2: record 2 again, but not the same"


async def test_a_nonce_used_a_hundred_times_at_once_is_taken_once(redis_url: str, unique: Callable[[str], str]) -> None:
    nonce, clients = unique("nonce"), [connect(redis_url) for _ in range(4)]
    gateways = [RedisNonces(client) for client in clients]
    taken = await asyncio.gather(*(gateways[n % 4].take("key", nonce, 600) for n in range(100)))
    assert sum(taken) == 1
    assert await gateways[0].take("other-key", nonce, 600), "nonces are each key's own"
    assert 599_000 < await clients[0].pttl(f"keylane:nonce:key:{nonce}") <= 600_000
    for client in clients:
        await client.aclose()


async def test_without_redis_no_nonce_is_taken() -> None:
    client = connect(f"redis://127.0.0.1:{ports.any_free()}", timeout=0.2)
    with pytest.raises(RedisAwayError):
        await RedisNonces(client).take("key", "nonce", 600)
    await client.aclose()

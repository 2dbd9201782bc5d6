"""Gateways that authenticate, on real servers: what one of them decides holds for the others."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession
from pydantic import SecretStr
from sqlalchemy import text, update
from typer.testing import CliRunner

from streams import signing
from streams.adapters import audit as adapter
from streams.adapters import sql
from streams.adapters.audit import AUDIT
from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.topics import TopicAdmin
from streams.adapters.vault import new_master
from streams.app import tools
from streams.app.audit import verify
from streams.app.gateway import gateway
from streams.cli import audit as audit_command
from streams.cli import keys as keys_command
from streams.dev import ports
from streams.settings import Settings, SettingsError
from streams.topics import Topic
from tests.eventually import eventually
from tests.gateway_doubles import JOB
from tests.integration.test_dlt import Desk, desk
from tests.integration.test_gateway import apply_topics

__all__ = ["desk"]  # a fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BODY = json.dumps(JOB).encode()
JSON = {"Content-Type": "application/json"}
ORDER = ["ours", "--scope", "jobs:write", "--tenant", "steppe", "--json"]


@pytest.fixture
def own(settings: Settings, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A database and a trail of its own."""
    assert settings.database_url is not None
    url, name = settings.database_url.get_secret_value(), unique("access").replace("-", "_")

    async def create() -> None:
        admin = sql.connect(url).execution_options(isolation_level="AUTOCOMMIT")
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
        await admin.dispose()
        await apply_topics(settings)

    asyncio.run(create())
    topic = unique("audit")
    for module in ("streams.adapters.audit", "streams.app.audit"):
        monkeypatch.setattr(f"{module}.TOPIC", topic)
    return settings.model_copy(
        update={
            "database_url": SecretStr(f"{url.rpartition('/')[0]}/{name}"),
            "secret_keys": SecretStr(new_master("tests")),
            "gateway_auth": "key,hmac",
            "gateway_port": ports.any_free(),
        }
    )


@pytest.fixture
def command(own: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs ``keylane keys …`` or ``audit …`` on these servers; gives what it said, or why it failed."""
    for module in (keys_command, audit_command):
        monkeypatch.setattr(module, "load", lambda: own)
        monkeypatch.setattr(module, "attach", lambda settings: settings)

    def run(app: Any, *words: str, code: int = 0) -> str:
        ended = CliRunner().invoke(app, list(words))
        assert ended.exit_code == code, ended.output
        return ended.output

    return run


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[ClientSession]:
    async with gateway(settings) as url, ClientSession(url) as client:
        yield client


async def post(client: ClientSession, headers: dict[str, str]) -> int:
    async with client.post("/api/v1/jobs", data=BODY, headers=JSON | headers) as response:
        return response.status


def test_a_key_made_at_the_command_line_is_taken_and_revoked_everywhere_within_five_seconds(
    own: Settings, command: Callable[..., Any]
) -> None:
    made = json.loads(command(keys_command.app, "create", *ORDER))
    admin = json.loads(command(keys_command.app, "create", "ops", "--scope", "admin", "--json"))
    key = {"X-API-Key": made["key"]}

    async def life() -> None:
        other = own.model_copy(update={"gateway_port": ports.any_free()})
        async with served(own) as here, served(other) as there:
            assert [await post(client, key) for client in (here, there)] == [202, 202]
            path, headers = f"/api/v1/keys/{made['prefix']}", {"X-API-Key": admin["key"]}
            async with here.delete(path, headers=headers) as response:
                assert response.status == 200
            revoked = time.monotonic()

            async def refused() -> bool:
                return await post(there, key) == 401

            assert await post(here, key) == 401
            await eventually(refused, within=5)
            assert time.monotonic() - revoked < 5

    asyncio.run(life())
    listed = {each["prefix"]: each for each in json.loads(command(keys_command.app, "list", "--json"))}
    assert listed[made["prefix"]]["revoked_at"]
    assert not listed[admin["prefix"]]["revoked_at"]
    assert made["key"] not in str(listed)
    assert [json.loads(line)["what"] for line in command(audit_command.app, "list", "--json").splitlines()] == [
        "keys.revoke",
        "keys.create",
        "keys.create",
    ]


def test_one_nonce_used_a_hundred_times_at_once_at_two_gateways_is_taken_once(
    own: Settings, command: Callable[..., Any]
) -> None:
    made = json.loads(command(keys_command.app, "create", *ORDER))
    signed = signing.headers(
        made["prefix"],
        made["signing_secret"],
        "POST",
        "/api/v1/jobs",
        BODY,
        timestamp=int(time.time()),
        nonce=secrets.token_urlsafe(16),
    )

    async def at_once() -> list[int]:
        other = own.model_copy(update={"gateway_port": ports.any_free()})
        async with served(own) as here, served(other) as there:
            return await asyncio.gather(*(post((here, there)[n % 2], signed) for n in range(100)))

    assert sorted(asyncio.run(at_once())) == [202, *[401] * 99]


def test_acts_reach_the_topic_and_a_changed_record_is_named(own: Settings, command: Callable[..., Any]) -> None:
    command(keys_command.app, "create", *ORDER)
    assert "all 1 records are whole, 1 of them wait" in command(audit_command.app, "verify")

    async def published() -> None:
        await apply_audit_topic(own)
        async with served(own), tools.keyring(own) as (_, audit, vault):

            async def copied() -> bool:
                return await verify(audit, tools.log_reader(own), vault) == (1, 0, None)

            await eventually(copied, within=20)

    asyncio.run(published())
    assert command(audit_command.app, "verify").strip() == "all 1 records are whole"

    async def forge() -> None:
        assert own.database_url is not None
        engine = sql.connect(own.database_url.get_secret_value())
        async with engine.begin() as connection:
            await connection.execute(update(AUDIT).values(record=AUDIT.c.record + " "))
        await engine.dispose()

    asyncio.run(forge())
    assert "in the database, record 1 was changed" in command(audit_command.app, "verify", code=1)


async def apply_audit_topic(settings: Settings) -> None:
    admin = TopicAdmin(client_options(settings))
    await admin.apply(await admin.plan([Topic(name=adapter.TOPIC, partitions=1)]))


async def test_a_replay_is_written_down_before_it_is_made_or_it_is_not_made(
    own: Settings, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own.database_url is not None
    assert own.secret_keys is not None
    await desk.die(("acme/1", 0))
    away = f"postgresql+asyncpg://nobody@127.0.0.1:{ports.any_free()}/none"
    replay = ("replay", "--tenant", "acme", "--yes", "--reason", "mailbox is back")
    desk.environment |= {"KEYLANE_SECRET_KEYS": own.secret_keys.get_secret_value(), "KEYLANE_DATABASE_URL": away}
    refused = await desk.run(*replay)
    assert (refused.code, "PostgreSQL is away" in refused.err) == (1, True)
    assert await desk.copied() == 0

    desk.environment["KEYLANE_DATABASE_URL"] = own.database_url.get_secret_value()
    assert (await desk.run(*replay)).code == 0
    assert await desk.copied() == 1
    async with tools.keyring(own) as (_, audit, _vault):
        (entry,) = await audit.newest(10)
    said = entry.members
    assert (said["what"], said["tenant"], said["source"]) == ("dlt.replay", "acme", "cli")
    assert said["before"] == {"entries": 1, "filters": {"tenant": "acme"}}
    assert said["after"] == {"reason": "mailbox is back"}


def test_what_the_command_line_cannot_do_is_said_in_one_sentence(own: Settings, command: Callable[..., Any]) -> None:
    create = ("create", "ours", "--scope", "jobs:write")
    assert "a key without the scope admin needs a tenant" in command(keys_command.app, *create, code=1)
    assert "no key has the prefix 0123" in command(keys_command.app, "revoke", "0123", code=1)


async def test_a_pattern_that_is_no_route_stops_the_start(settings: Settings) -> None:
    await apply_topics(settings)
    changes = {"gateway_auth_routes": '{"/api/v2": "none"}', "gateway_port": ports.any_free()}
    with pytest.raises(SettingsError, match=r"KEYLANE_GATEWAY_AUTH_ROUTES: /api/v2 is no route"):
        async with gateway(settings.model_copy(update=changes)):
            pass


async def test_without_master_keys_no_key_is_made_and_the_command_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"KEYLANE_SECRET_KEYS: keys and audit need it; 'keylane keys secret'"):
        async with tools.keyring(settings):
            pass

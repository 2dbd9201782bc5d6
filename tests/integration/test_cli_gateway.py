"""Commands with ``--url``: all they have is the address of a gateway that wants to know who asks."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.reader import KafkaLogReader
from streams.app.gateway import gateway
from streams.cli import dlt, jobs, keys, publish
from streams.dev import ports
from streams.event import from_headers, tenant_of
from tests.gateway_doubles import HELD, PAYLOAD
from tests.integration.test_access import command, own
from tests.integration.test_dlt import Answer

__all__ = ["command", "own"]  # fixtures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from streams.ports import Record
    from streams.settings import Settings

NOWHERE = {
    "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "KEYLANE_DATABASE_URL": "postgresql+asyncpg://nobody@127.0.0.1:1/none",
    "COLUMNS": "200",
}


class Far:
    """The command line on a machine with nothing but the address of a gateway, and perhaps credentials."""

    def __init__(self, url: str, **credentials: str) -> None:
        self.url = url
        self.environment = NOWHERE | credentials

    async def run(self, group: Any, *words: str) -> Answer:
        asked = [*words, "--url", self.url]
        found = await asyncio.to_thread(CliRunner().invoke, group.app, asked, env=self.environment)
        return Answer(found.exit_code, found.stdout, found.stderr.strip())


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[str]:
    # Its log would go where the command's output is looked for, as both are in this process.
    with capture_logs():
        async with gateway(settings) as url:
            yield url


def made(command: Callable[..., Any], name: str, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command(keys.app, "create", name, *words, "--json"))
    return found


def test_keys_are_made_listed_and_revoked_through_a_gateway_as_in_the_database(
    own: Settings, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", NOWHERE["COLUMNS"])
    admin = made(command, "ops", "--scope", "admin")

    async def life() -> tuple[dict[str, Any], Answer, Answer, Answer]:
        async with served(own) as url:
            far = Far(url, KEYLANE_API_KEY=admin["key"])
            words = ("billing", "--tenant", "steppe", "--scope", "jobs:read", "--scope", "jobs:write", "--days", "2")
            new = await far.run(keys, "create", *words, "--json")
            revoked = await far.run(keys, "revoke", new.json()["prefix"])
            listed = [await far.run(keys, "list", *words) for words in ((), ("--json",))]
            return new.json(), revoked, listed[0], listed[1]

    new, revoked, table, listed = asyncio.run(life())
    assert set(new) == set(admin), "the same members with and without --url"
    assert (new["tenant"], new["scopes"]) == ("steppe", ["jobs:read", "jobs:write"])
    assert new["expires_at"] > new["created_at"]
    assert revoked.out.startswith(f"{new['prefix']} is revoked since 20")
    assert json.loads(command(keys.app, "list", "--json")) == listed.json()
    assert command(keys.app, "list") == table.out


def test_who_may_not_is_told_in_one_sentence_what_to_do(own: Settings, command: Callable[..., Any]) -> None:
    reader = made(command, "reader", "--tenant", "steppe", "--scope", "jobs:read")

    async def refusals() -> list[Answer]:
        async with served(own) as url:
            known, unknown = Far(url, KEYLANE_API_KEY=reader["key"]), Far(url)
            return [
                await unknown.run(jobs, "list"),
                await known.run(keys, "list"),
                await known.run(dlt, "ls"),
                await known.run(keys, "create", "x", "--scope", "admin"),
                await Far(f"http://127.0.0.1:{ports.any_free()}").run(jobs, "list"),
                await Far(f"{url}/docs").run(jobs, "show", "j"),
                await Far(url, KEYLANE_SIGNING_SECRET="kls_0").run(jobs, "list"),
            ]

    said = asyncio.run(refusals())
    assert [answer.code for answer in said] == [1] * len(said)
    assert [len(answer.err.splitlines()) for answer in said] == [1] * len(said)
    nobody, forbidden, letters, maker, away, elsewhere, unsigned = (answer.err for answer in said)
    assert nobody.startswith("401 ")
    assert nobody.endswith("; set KEYLANE_API_KEY to a key that 'keylane keys create' has shown")
    for refused in (forbidden, letters, maker):
        assert refused.startswith("403 ")
        assert "use a key with the scope and the tenant for it" in refused
    assert "start 'keylane gateway' there, or name another --url" in away
    assert elsewhere.startswith("404 ")
    assert unsigned.startswith("KEYLANE_SIGNING_SECRET: set KEYLANE_API_KEY")


def test_commands_sign_where_they_have_a_signing_secret(own: Settings, command: Callable[..., Any]) -> None:
    key = made(command, "reader", "--tenant", "steppe", "--scope", "jobs:read")

    async def signed() -> list[Answer]:
        async with served(own.model_copy(update={"gateway_auth": "hmac"})) as url:
            secret = {"KEYLANE_SIGNING_SECRET": key["signing_secret"]}
            return [
                await Far(url, KEYLANE_API_KEY=named, **secret).run(jobs, "list", "--key", "a b/ü", "--json")
                for named in (key["key"], key["prefix"])
            ]

    assert [(answer.code, answer.out.strip()) for answer in asyncio.run(signed())] == [(0, "[]")] * 2


class Printer:
    """A far machine that publishes files, and the records of its tenant."""

    def __init__(self, far: Far, settings: Settings, tenant: str, folder: Path) -> None:
        self.far = far
        self.tenant = tenant
        self._folder = folder
        self._reader = KafkaLogReader(client_options(settings))

    def event(self, number: int, **changes: Any) -> dict[str, Any]:
        fields = {"type": "reservation.held", "tenant": self.tenant, "entity": f"r-{number % 5}", "data": HELD}
        return fields | {"id": f"e-{number}"} | changes

    def job(self, number: int, **changes: Any) -> dict[str, Any]:
        fields = {"type": "notification.signin", "tenant": self.tenant, "id": f"j-{number}", "data": PAYLOAD}
        return fields | changes

    async def publish(self, *values: Any, options: tuple[str, ...] = ()) -> tuple[int, str]:
        path = self._folder / "in.jsonl"
        path.write_text("\n".join(value if isinstance(value, str) else json.dumps(value) for value in values))
        answer = await self.far.run(publish, str(path), *options)
        return answer.code, answer.err

    async def stored(self) -> list[Record]:
        ends = await self._reader.ends(["events.reservation", "jobs.emails"])
        found: list[Record] = []
        async for batch in self._reader.read(dict.fromkeys(ends, 0), ends):
            found += [record for record in batch if tenant_of(record.key) == self.tenant]
        return found

    async def ids(self) -> dict[str, list[str]]:
        """By key, in their order."""
        found: dict[str, list[str]] = {}
        for record in await self.stored():
            key = (record.key or b"").decode().removeprefix(f"{self.tenant}/")
            found.setdefault(key, []).append(from_headers(record.headers)["id"])
        return found


@pytest.fixture
async def printer(own: Settings, unique: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Printer]:
    open_to_all = own.model_copy(update={"gateway_auth": "none"})
    async with served(open_to_all) as url:
        yield Printer(Far(url), own, unique("far"), tmp_path)


async def test_events_and_jobs_are_published_in_the_order_of_the_file(printer: Printer) -> None:
    values = [printer.event(number) for number in range(1_200)]
    values[600:600] = [printer.job(number) for number in range(30)]
    values[3] = {"specversion": "1.0", "source": "/shop", "subject": "r-3", "shop": "north", **values[3]}
    del values[3]["entity"]
    assert await printer.publish(*values) == (0, "published 1230 records")
    found = await printer.ids()
    assert found["user-1"] == [f"j-{number}" for number in range(30)]
    for key in range(5):
        assert found[f"r-{key}"] == [f"e-{number}" for number in range(key, 1_200, 5)]
    (cloud,) = [each for each in map(told, await printer.stored()) if each["id"] == "e-3"]
    assert (cloud["source"], cloud["subject"], cloud["shop"]) == ("/shop", "r-3", "north")


def told(record: Record) -> dict[str, str]:
    return from_headers(record.headers)


async def test_it_stops_at_a_bad_value_with_nothing_published_behind_it(printer: Printer) -> None:
    bad = printer.event(2, data={})
    code, said = await printer.publish(printer.event(0), printer.job(1), bad, printer.event(3))
    assert (code, said[:8]) == (1, "line 3: "), said
    assert said.endswith("; 2 records were published before it, none after it")
    assert await printer.ids() == {"r-0": ["e-0"], "user-1": ["j-1"]}


async def test_what_only_the_gateway_refuses_is_named_with_its_line_and_with_what_went_out_behind_it(
    printer: Printer,
) -> None:
    values = [printer.job(0), printer.job(1, id="not an id"), printer.job(2), printer.job(3, entity="other")]
    code, said = await printer.publish(*values)
    assert (code, said[:8]) == (1, "line 2: "), said
    assert "/jobs/1/id: " in said
    assert said.endswith("; 1 records were published before it, 1 after it")
    assert await printer.ids() == {"user-1": ["j-0"], "other": ["j-3"]}


async def test_bad_values_are_passed_over_on_request_and_what_waited_behind_them_is_published(printer: Printer) -> None:
    values = ["{", printer.job(0), printer.job(1, id="not an id"), printer.job(2), printer.job(3, entity="other")]
    code, said = await printer.publish(*values, options=("--skip-bad",))
    first, second, last = said.splitlines()
    assert code == 2
    assert first.startswith("line 1: not JSON")
    assert second.startswith("line 3: ")
    assert last == "published 3 records; bad values passed over: 2"
    assert await printer.ids() == {"user-1": ["j-0", "j-2"], "other": ["j-3"]}

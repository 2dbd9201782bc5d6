"""``keylane dlt --url``: through a real gateway, by a command that cannot reach Kafka, as straight from Kafka."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from streams.app.gateway import gateway
from streams.cli.dlt import app
from streams.deadletters import operation as operation_module
from tests.eventually import eventually
from tests.integration.test_dlt import Answer, Desk, desk
from tests.integration.test_gateway import apply_topics, on_a_free_port

__all__ = ["desk"]  # a fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.settings import Settings


class Far:
    """The command line on a machine with nothing but the address of a gateway."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def run(self, *words: str) -> Answer:
        nowhere = {"KEYLANE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "COLUMNS": "300"}
        found = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--url", self.url], env=nowhere)
        return Answer(found.exit_code, found.stdout, found.stderr)


@asynccontextmanager
async def served(settings: Settings, desk: Desk) -> AsyncIterator[Far]:
    """A gateway of the desk's own deployment."""
    changes = {"catalogue": desk.environment["KEYLANE_CATALOGUE"]}
    # Its log would go where the command's output is looked for, as both are in this process.
    with capture_logs():
        async with gateway(on_a_free_port(settings.model_copy(update=changes))) as url:
            desk.environment["KEYLANE_SCHEMA_REGISTRY_URL"] = f"{url}/registry"
            yield Far(url)


@pytest.fixture
async def ready(settings: Settings) -> Settings:
    await apply_topics(settings)
    return settings


@pytest.mark.parametrize(
    "words",
    [
        ("ls",),
        ("ls", "--output", "json"),
        ("ls", "--output", "json", "--limit", "2"),
        ("ls", "--output", "json", "--tenant", "globex", "--partition", "0"),
        ("ls", "--output", "json", "--state", "open", "--state", "parked", "--offsets", "1-"),
        ("ls", "--output", "json", "--exception", "BounceError", "--since", "2023-11-14T22:13:20.001Z"),
        ("replay", "--output", "json", "--key", "1"),
        ("replay", "--output", "json", "--state", "parked"),
        ("discard", "--limit", "1"),
        ("discard", "{dlt}/0/0", "--output", "json"),
        ("show", "{dlt}/0/0"),
        ("show", "{dlt}/1/0", "--output", "json"),
    ],
)
async def test_what_is_looked_at_or_planned_through_a_gateway_is_printed_as_from_kafka(
    ready: Settings, desk: Desk, words: tuple[str, ...]
) -> None:
    await desk.die(("acme/1", 0), ("acme/2", 1), ("globex/1", 0))
    await desk.die(("acme/3", 1), replays=3, first=3, held=True)
    asked = [word.replace("{dlt}", desk.family.dlt) for word in words]
    async with served(ready, desk) as far:
        there, here = await far.run(*asked), await desk.run(*asked)
    assert there.out == here.out.replace(f"{far.url}/registry: ", "")
    assert (there.code, there.err) == (here.code, here.err)
    assert len(there.out) > 50


async def test_a_replay_and_a_discard_are_carried_out_by_the_gateway(ready: Settings, desk: Desk) -> None:
    await desk.die(("acme/1", 0), ("acme/2", 1), held=True)
    async with served(ready, desk) as far:
        dry = await far.run("replay", "--output", "json")
        assert (dry.code, dry.json()["dry_run"], dry.json()["entries"], await desk.copied()) == (0, True, 2, 0)
        words = ("replay", "--key", "acme/1", "--yes", "--reason", "mailbox is back", "--output", "json")
        done = await far.run(*words)
        found = done.json()
        assert (done.code, found["kind"], found["entries"]) == (0, "replay", 1)
        assert (found["done"], found["before"], found["expired"]) == (1, 0, 0)
        assert "the gateway goes on with it alone; should that stop, 'keylane dlt replay --replay-id" in done.err
        gone = await far.run("discard", "--key", "acme/2", "--yes")
        assert (gone.code, "has finished: 1 done" in gone.err) == (0, True)
        states = {entry["key"]: entry["state"] for entry in (await far.run("ls", "--output", "json")).json()}
        shown = await far.run("show", f"{desk.family.dlt}/0/0", "--output", "json")
    assert states == {"acme/1": "replayed", "acme/2": "discarded"}
    assert "mailbox is back" in shown.out
    assert await desk.copied() == 2


async def test_a_replay_whose_gateway_stops_is_resumed_through_another_one_without_repeating_an_entry(
    ready: Settings, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation_module, "SILENCE", 1.0)
    await desk.die(*[(f"acme/{number % 7}", number % 2) for number in range(300)])
    async with served(ready, desk) as first:
        slow = asyncio.create_task(first.run("replay", "--yes", "--rate", "100", "--output", "json"))

        async def some_are_copied() -> bool:
            return await desk.copied() >= 20

        await eventually(some_are_copied, within=60)
    stopped = await slow
    assert stopped.code == 1
    before = await desk.copied()
    assert before < 300
    (unfinished,) = {entry["operation"] for entry in await desk.ls() if entry["unfinished"]}
    assert f"resume it with 'keylane dlt {unfinished.replace(' ', ' --replay-id ')} --yes --url" in stopped.err
    async with served(ready, desk) as second:
        listed = await second.run("ls", "--limit", "1")
        assert listed.err.strip().endswith(f"--yes --url {second.url}'")
        resume = ("replay", "--replay-id", unfinished.split()[1], "--yes")
        resumed = await second.run(*resume, "--rate", "0", "--output", "json")
        assert resumed.code == 0, resumed.err
        assert (resumed.json()["before"], resumed.json()["done"]) == (before, 300 - before)
        again = await second.run(*resume)
        assert (again.code, "has finished: there is nothing to resume" in again.err) == (1, True)
    assert await desk.copied() == 300


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "nonsense"), "nonsense: must be <topic>/<partition>/<offset>"),
        (("show", "jobs.x.x.dlt/0/0"), "404 There is no such dead letter (any more)."),
        (("replay", "--replay-id", "r-0", "--yes"), "404 There is no such operation."),
        (("replay", "--replay-id", "r-0"), "--replay-id r-0: add --yes to resume it"),
        (("replay", "--tenant", "a b"), "400 The body does not fit.; /tenant: "),
    ],
)
async def test_a_mistake_is_one_sentence(ready: Settings, desk: Desk, words: tuple[str, ...], sentence: str) -> None:
    async with served(ready, desk) as far:
        answer: Any = await far.run(*words)
    assert answer.code == 1
    assert answer.err.strip().splitlines()[-1].startswith(sentence)
    assert "Traceback" not in answer.err

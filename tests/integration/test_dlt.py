from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiokafka
import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from typer.testing import CliRunner

from streams.adapters.kafka.options import client_options
from streams.adapters.kafka.publisher import KafkaPublisher
from streams.adapters.kafka.reader import KafkaLogReader
from streams.adapters.kafka.topics import TopicAdmin
from streams.cli.dlt import app
from streams.core import headers as h
from streams.core.deadletter import Failure, dead_letter_headers
from streams.deadletters.entry import Family, Filters
from streams.deadletters.ledger import TOPIC, state_message
from streams.deadletters.operation import Operations
from streams.deadletters.reading import DeadLetters
from streams.deadletters.writing import Clock
from streams.ports import Message, TopicPartition
from streams.topics import Topic
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.ports import Record
    from streams.settings import Settings

ROOT = Path(__file__).parents[2]
PARTITIONS = 2
CATALOGUE = """
from streams.job import Catalogue, Queue

def discover(settings):
    return Catalogue(queues=(Queue(name="{name}", tiers=(), partitions=2),))
"""


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Desk:
    """A queue of its own on the real broker, dead letters in it, and the command line before it."""

    def __init__(self, settings: Settings, name: str, folder: Path) -> None:
        self.family = Family(f"jobs.{name}", name)
        self.options = client_options(settings)
        self.publisher = KafkaPublisher(self.options)
        self.reader = KafkaLogReader(self.options)
        module = f"catalogue_{name.replace('-', '_')}"
        (folder / f"{module}.py").write_text(CATALOGUE.format(name=name))
        self.environment = {
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
            "KEYLANE_CATALOGUE": f"{module}:discover",
            "KEYLANE_DATA_DIR": str(folder),
            "KEYLANE_SCHEMA_REGISTRY_URL": "http://127.0.0.1:1",
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "COLUMNS": "300",
        }
        self.folder = folder

    async def die(self, *rows: tuple[str, int], **extra: Any) -> None:
        """Dead letters as the engine writes them, one per ``(key, partition)``, in this order."""
        pending = []
        for origin, (key, partition) in enumerate(rows, start=extra.get("first", 0)):
            ways = {h.LEVEL: "0.dlt", h.REPLAYS: str(extra.get("replays", 0)), h.MOVER: "worker"}
            ways |= {h.HOLD: "1"} if extra.get("held") else {}
            failure = Failure(
                topic=self.family.source,
                partition=partition,
                offset=origin,
                timestamp=1_700_000_000_000,
                group=self.family.group,
                handler="mail",
                attempts=5,
                time=1_700_000_000_000 + origin,
                exception=extra.get("exception", "shop.mail.BounceError"),
                message="no such mailbox",
                stack=lambda: "Traceback\nshop.mail.BounceError: no such mailbox",
                classification="exhausted",
                version="0.1.0",
            )
            headers = h.replaced([("ce_type", b"shop.mail"), ("ce_id", b"%d" % origin)], ways)
            made = dead_letter_headers(headers, failure, aliases=True)
            value = b"\x00\x00\x00\x00\x09 %d" % origin
            pending.append(await self.publisher.send(Message(self.family.dlt, key.encode(), value, made, partition)))
        for one in pending:
            await one

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from streams.cli import main; main()",
            "dlt",
            *words,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str) -> Answer:
        """The command in a thread of this process: it starts a loop of its own."""
        found = await asyncio.to_thread(CliRunner().invoke, app, words, env=self.environment)
        return Answer(found.exit_code, found.stdout, found.stderr)

    async def ls(self, *words: str) -> list[dict[str, Any]]:
        answer = await self.run("ls", "--output", "json", *words)
        assert answer.code == 0, answer.err
        found: list[dict[str, Any]] = answer.json()
        return found

    async def copied(self) -> int:
        return sum((await self.reader.ends([self.family.replays])).values())

    async def copies(self) -> dict[int, list[Record]]:
        ends = await self.reader.ends([self.family.replays])
        found: dict[int, list[Record]] = defaultdict(list)
        async for batch in self.reader.read(dict.fromkeys(ends, 0), ends):
            for record in batch:
                found[record.partition].append(record)
        return found


@pytest.fixture
async def desk(
    settings: Settings, unique: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.syspath_prepend(tmp_path)
    desk = Desk(settings, unique("mails"), tmp_path)
    admin = TopicAdmin(desk.options)
    topics = [Topic(name=name, partitions=PARTITIONS) for name in (desk.family.dlt, desk.family.replays)]
    topics.append(Topic(name=TOPIC, partitions=1, configs={"cleanup.policy": "compact"}))
    await admin.apply(await admin.plan(topics))
    yield desk
    await desk.publisher.stop()


async def test_dead_letters_are_listed_filtered_and_shown(desk: Desk) -> None:
    await desk.die(("acme/1", 0), ("acme/2", 1), ("globex/1", 0))
    listed = await desk.ls()
    assert {entry["key"] for entry in listed} == {"acme/1", "acme/2", "globex/1"}
    first = next(entry for entry in listed if entry["key"] == "acme/1")
    assert first["ref"] == f"{desk.family.dlt}/0/0"
    assert first["origin"] == {
        "topic": desk.family.source,
        "partition": 0,
        "offset": 0,
        "timestamp": 1_700_000_000_000,
    }
    expected = {"state": "open", "exception": "shop.mail.BounceError", "attempts": 5, "classification": "exhausted"}
    assert {name: first[name] for name in expected} == expected
    assert [entry["key"] for entry in await desk.ls("--tenant", "globex")] == ["globex/1"]
    assert [entry["key"] for entry in await desk.ls("--partition", "1", "--exception", "BounceError")] == ["acme/2"]
    assert await desk.ls("--until", "2023-11-14T00:00:00Z") == []
    shown = await desk.run("show", first["ref"])
    assert shown.code == 0
    for part in (
        "BounceError: no such mailbox",
        "kl-attempts",
        "0x0000000009",
        "Connect call failed",
        "died  exhausted",
    ):
        assert part in shown.out


async def test_a_replay_is_a_dry_run_until_yes(desk: Desk) -> None:
    await desk.die(("acme/1", 0), ("acme/2", 1))
    dry = await desk.run("replay", "--output", "json")
    assert (dry.code, dry.json()["dry_run"], dry.json()["entries"]) == (0, True, 2)
    assert await desk.copied() == 0
    done = await desk.run("replay", "--key", "acme/1", "--yes", "--reason", "mailbox is back", "--output", "json")
    assert (done.code, done.json()["done"]) == (0, 1)
    (record,) = (await desk.copies())[0]
    assert (record.key, record.value) == (b"acme/1", b"\x00\x00\x00\x00\x09 0")
    assert h.text(record.headers, h.FROM) == "0.dlt@0"
    assert {entry["key"]: entry["state"] for entry in await desk.ls()} == {"acme/1": "replayed", "acme/2": "open"}
    await desk.publisher.publish(state_message(f"{desk.family.dlt}/0/0", "resolved", at=1, replay_id="r"))
    assert [entry["key"] for entry in await desk.ls("--state", "resolved")] == ["acme/1"]
    shown = await desk.run("show", f"{desk.family.dlt}/0/0", "--output", "json")
    history = [step["state"].split()[0] for step in shown.json()["history"]]
    assert history == ["died", "replay", "resolved"]
    assert "mailbox is back" in shown.out


async def test_parked_and_held_ones_are_left_and_discarded_on_request(desk: Desk) -> None:
    await desk.die(("acme/1", 0), replays=3, held=True)
    await desk.die(("acme/1", 0), ("acme/2", 0), exception="shop.Other", held=True)
    left = await desk.run("replay", "--yes", "--exception", "Other", "--output", "json")
    assert (left.code, left.json()["done"]) == (2, 1)
    assert "offset 0 died before it" in left.json()["refused"][0]["reason"]
    gone = await desk.run("discard", f"{desk.family.dlt}/0/0", "--yes")
    assert gone.code == 0, gone.err
    copies = (await desk.copies())[0]
    assert [(record.key, h.text(record.headers, h.CONTROL)) for record in copies] == [
        (b"acme/2", None),
        (b"acme/1", "discard"),
    ]
    again = await desk.run("replay", "--yes", "--output", "json")
    assert (again.code, again.json()["done"]) == (0, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "nonsense"), "nonsense: must be <topic>/<partition>/<offset>"),
        (("ls", "--state", "lost"), "--state lost: must be one of open, replayed"),
        (("ls", "--since", "tomorrow"), "--since tomorrow: must be RFC 3339"),
        (("replay", "--replay-id", "r-0", "--yes"), "there is no replay r-0"),
    ],
)
async def test_a_mistake_is_one_sentence(desk: Desk, words: tuple[str, ...], sentence: str) -> None:
    answer = await desk.run(*words)
    assert answer.code == 1
    assert answer.err.strip().splitlines()[-1].startswith(sentence)
    assert "Traceback" not in answer.err


async def test_dead_letters_that_expire_between_plan_and_run_are_counted(desk: Desk) -> None:
    await desk.die(*[("acme/1", 0)] * 5)
    letters = DeadLetters(desk.reader, [desk.family], max_replays=3)
    clock = Clock(time.time, time.monotonic, asyncio.sleep)
    operations = Operations(letters, desk.publisher, clock, by="test")
    operation = await operations.start(await operations.draft("replay", Filters()), f"r-{desk.family.group}")
    admin = AIOKafkaAdminClient(**desk.options)
    await admin.start()
    await admin.delete_records({aiokafka.TopicPartition(desk.family.dlt, 0): RecordsToDelete(before_offset=3)})
    await admin.close()
    assert await operations.run(operation) == (2, 0, 3)
    gone = await desk.run("show", f"{desk.family.dlt}/0/1")
    assert gone.err.strip() == f"{desk.family.dlt}/0/1 does not exist (any more)"
    assert len(await desk.ls()) == 2


async def test_a_replay_killed_in_the_middle_is_resumed_without_repeating_an_entry(desk: Desk) -> None:
    rows = [(f"acme/{number % 37}", number % PARTITIONS) for number in range(1_500)]
    await desk.die(*rows)
    killed = await desk.start("replay", "--yes", "--rate", "300", "--output", "json")

    async def some_are_copied() -> bool:
        return await desk.copied() >= 200

    await eventually(some_are_copied, within=60)
    killed.kill()
    await killed.wait()
    before = await desk.copied()
    assert 200 <= before < 1_500
    (unfinished,) = {entry["operation"] for entry in await desk.ls() if entry["unfinished"]}
    kind, replay_id = unfinished.split()
    assert kind == "replay"

    resumed = await desk.run("replay", "--replay-id", replay_id, "--yes", "--rate", "0", "--output", "json")
    assert resumed.code == 0, resumed.err
    assert resumed.json()["before"] == before
    assert resumed.json()["done"] == 1_500 - before
    copies = await desk.copies()
    for partition in range(PARTITIONS):
        places = [h.text(record.headers, h.FROM) for record in copies[partition]]
        assert places == [f"0.dlt@{offset}" for offset in range(750)]
        assert [record.headers[1] for record in copies[partition]] == [
            ("ce_id", b"%d" % number) for number in range(partition, 1_500, PARTITIONS)
        ]
    assert {entry["state"] for entry in await desk.ls("--limit", "2000")} == {"replayed"}
    again = await desk.run("replay", "--replay-id", replay_id, "--yes")
    assert "has finished: there is nothing to resume" in again.err
    assert await desk.reader.ends([desk.family.replays]) == {
        TopicPartition(desk.family.replays, partition): 750 for partition in range(PARTITIONS)
    }

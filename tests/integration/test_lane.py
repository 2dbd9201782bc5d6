"""``keylane lane`` on the real broker: it tells where a key stands, whoever runs or does not run."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from streams.adapters.kafka.partitioning import partition_of
from streams.adapters.kafka.topics import TopicAdmin
from streams.app.probes import probes
from streams.core.retry import RetryPolicy
from streams.deadletters.ledger import TOPIC as STATES
from streams.dev import ports
from streams.job import Group, Work
from streams.topics import Create, Topic
from tests.integration.engine_kit import ORDER, Kit, MemoryRegistry
from tests.integration.test_engine import dead_letters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parents[2]
CATALOGUE = """
from streams.job import Catalogue, Queue

def discover(settings):
    return Catalogue(queues=(Queue(name="{name}", tiers={tiers}, partitions=2),))
"""
KEY = "t/a"
HERE = partition_of(KEY.encode(), 2)


class House:
    """A queue with its group on the real broker, and the command line before it."""

    def __init__(self, kit: Kit, folder: Path) -> None:
        self.kit = kit
        module = f"catalogue_{kit.group.name.replace('-', '_')}"
        (folder / f"{module}.py").write_text(CATALOGUE.format(name=kit.group.name, tiers=kit.group.tiers))
        self.environment = {
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(kit.settings.kafka_bootstrap_servers),
            "KEYLANE_CATALOGUE": f"{module}:discover",
            "KEYLANE_DATA_DIR": str(folder),
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "COLUMNS": "250",
        }

    async def publish(self, *numbers: int, entity: str = "a") -> None:
        for number in numbers:
            await self.kit.publish(number, entity, HERE)

    async def start(self, *words: str, out: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from streams.cli import main; main()", *words),
            env={**self.environment, "PATH": os.environ["PATH"]},
            stdout=out,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str) -> tuple[int, str, str]:
        process = await self.start(*words)
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def lane(self, *words: str) -> dict[str, Any]:
        """What ``keylane lane`` says of the key in our group."""
        code, out, err = await self.run("lane", KEY, "--group", self.kit.group.name, "--json", *words)
        assert code == 0, err
        told = json.loads(out)
        return {**told["groups"][0], "not_known": told["not_known"]}


@pytest.fixture
async def house(settings, unique, create_topics, tmp_path: Path) -> Callable[..., Awaitable[House]]:
    async def make(handler: Any, *, tiers: tuple[float, ...] = (60.0,), **policy: Any) -> House:
        name = unique("q")
        retry = RetryPolicy(**{"attempts": 3, **policy})
        works = {ORDER.name: Work(handler=handler, retry=retry)}
        group = Group(name=name, source=f"jobs.{name}", tiers=tiers, partitions=2, concurrency=9, works=works)
        kit = Kit(settings, group, MemoryRegistry())
        await create_topics(*kit.family.shelves, partitions=2)
        await TopicAdmin(kit.options).apply([Create(Topic(name=STATES, partitions=1))])
        await kit.publisher.start()
        kits.append(kit)
        return House(kit, tmp_path)

    kits: list[Kit] = []
    yield make
    for kit in kits:
        await kit.publisher.stop()


async def test_a_key_that_waits_in_a_tier_is_shown_with_its_due_time_and_followers(house) -> None:
    done = asyncio.Event()

    async def handle(order, ctx) -> None:
        if ctx.key == KEY:
            raise ValueError("not now")
        done.set()

    made = await house(handle)
    async with made.kit.engine():
        await made.publish(0, 1, 2)
        await made.publish(7, entity="b")
        await done.wait()
    told = await made.lane()
    (level,) = told["levels"]
    assert (level["level"], level["topic"], level["records"], level["attempts"]) == ("0.0.1", "retry.1", 3, 1)
    assert level["due"] > 0
    assert told["partition"] == HERE
    assert told["unfinished"]["records"] == 0
    code, out, err = await made.run("lane", KEY, "--group", made.kit.group.name)
    assert code == 0
    assert "due in 5" in out
    assert "1 failed; 2 behind it" in out
    assert "no worker was asked" in err


async def test_a_held_key_is_shown_with_its_dead_letter_and_who_waits_behind(house) -> None:
    async def handle(order, ctx) -> None:
        raise ValueError("broken")

    made = await house(handle, attempts=1, on_dead="hold")
    async with made.kit.engine():
        await made.publish(0, 1)
        await dead_letters(made.kit, 2)
    await made.publish(2)
    told = await made.lane()
    assert [(level["topic"], level["records"]) for level in told["levels"]] == [("dlt", 2)]
    assert [letter["state"] for letter in told["dead_letters"]] == ["open", "waiting"]
    published = told["unfinished"].pop("published")
    assert abs(published / 1000 - time.time()) < 60
    assert told["unfinished"] == {"records": 1, "offset": 2, "before": 0, "beyond": 0}


async def test_unread_records_are_shown_with_how_many_of_other_keys_stand_before(house) -> None:
    made = await house(lambda order, ctx: None)
    await made.publish(0, 1, entity="b")
    await made.publish(2, 3)
    await made.publish(4, 5, 6, entity="b")
    told = await made.lane()
    assert (told["unfinished"]["records"], told["unfinished"]["before"]) == (2, 2)
    shallow = await made.lane("--depth", "3")
    assert (shallow["unfinished"]["records"], shallow["unfinished"]["beyond"]) == (1, 4)
    code, out, _ = await made.run("lane", "t/nobody", "--group", made.kit.group.name)
    assert (code, "nothing of it is unfinished" in out) == (0, True)


async def test_what_runs_or_waits_in_place_is_told_by_the_worker(house) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def handle(order, ctx) -> None:
        started.set()
        await release.wait()

    made = await house(handle)
    async with made.kit.engine() as engine:
        await made.publish(0, 1)
        await started.wait()
        worker = SimpleNamespace(
            engines={made.kit.group.name: engine},
            groups=[made.kit.group],
            metrics=made.kit.metrics,
            connections=SimpleNamespace(sql=None, redis=SimpleNamespace(ping=None)),
        )
        port = ports.any_free()
        async with probes(worker, "127.0.0.1", port):
            told = await made.lane("--worker", f"http://127.0.0.1:{port}")
        release.set()
    (held,) = told["workers"].values()
    assert (held["running"], held["waiting"], held["writing"]) == (1, 1, 0)
    assert told["unfinished"]["records"] == 2
    assert told["not_known"] == []


async def test_a_worker_that_does_not_answer_is_named(house) -> None:
    made = await house(lambda order, ctx: None)
    url = f"http://127.0.0.1:{ports.any_free()}"
    told = await made.lane("--worker", url)
    assert told["not_known"][0].startswith(f"{url} did not answer")


async def test_a_group_that_is_not_declared_is_refused_by_name(house) -> None:
    made = await house(lambda order, ctx: None)
    code, _, err = await made.run("lane", KEY, "--group", "nobody")
    assert code == 1
    assert err.startswith("no consumer group nobody; there are")

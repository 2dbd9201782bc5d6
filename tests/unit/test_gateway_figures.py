"""Numbers as JSON: of this process, and of the queues as Kafka and the history know them."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.core import commit_map
from streams.gateway.access import Caller
from streams.gateway.queues import FRESH, Queues
from streams.gateway.system import LoopLag, System
from streams.job import Group, TransientError
from streams.ports import Committed, TopicPartition
from tests.eventually import eventually
from tests.gateway_doubles import JOB, Bench

PATHS = ("/metrics/json", "/metrics/queue-stats", "/metrics/system")
GROUP = Group(name="emails", source="jobs.emails", tiers=(2.0, 4.0), partitions=2, concurrency=1, works={})
ENDS = {
    ("jobs.emails", 0): 100,
    ("jobs.emails", 1): 50,
    ("jobs.emails.emails.retry.0", 0): 3,
    ("jobs.emails.emails.retry.1", 0): 12,
    ("jobs.emails.emails.retry.2", 1): 5,
    ("jobs.emails.emails.dlt", 0): 4,
}


class Cluster:
    """Offsets and commits, and how often they were asked for."""

    def __init__(self) -> None:
        self.ended = {TopicPartition(*place): end for place, end in ENDS.items()}
        self.started: dict[TopicPartition, int] = {}
        self.commits: dict[TopicPartition, Committed] = {}
        self.counts: dict[tuple[str, str], int] | Exception = {}
        self.now = 100.0
        self.asked = 0

    async def ends(self, topics: Any) -> dict[TopicPartition, int]:
        self.asked += 1
        await asyncio.sleep(0)
        return {place: end for place, end in self.ended.items() if place.topic in topics}

    async def starts(self, topics: Any) -> dict[TopicPartition, int]:
        return self.started

    async def committed(self, partitions: Any) -> dict[TopicPartition, Committed]:
        return {place: self.commits[place] for place in partitions if place in self.commits}

    async def unfinished(self) -> dict[tuple[str, str], int]:
        if isinstance(self.counts, Exception):
            raise self.counts
        return self.counts

    def queues(self) -> Queues:
        return Queues([GROUP], self, lambda _: self, self.unfinished, lambda: self.now)

    async def figures(self) -> dict[str, Any]:
        (found,) = await self.queues().figures()
        return found.model_dump()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def ahead(offset: int, *finished: tuple[int, int]) -> Committed:
    """A commit with finished records above its offset."""
    return Committed(offset, commit_map.encode(offset, finished, None)[0])


async def test_where_a_queue_stands_comes_from_offsets_and_commits(cluster: Cluster) -> None:
    cluster.commits = {
        TopicPartition("jobs.emails", 0): ahead(90, (92, 95)),
        TopicPartition("jobs.emails", 1): Committed(50, ""),
        TopicPartition("jobs.emails.emails.retry.1", 0): Committed(10, ""),
        TopicPartition("jobs.emails.emails.retry.2", 1): Committed(5, ""),
        TopicPartition("jobs.emails.emails.retry.0", 0): Committed(3, ""),
    }
    cluster.counts = {("emails", "processing"): 6, ("emails", "retrying"): 2, ("other", "processing"): 9}
    assert await cluster.figures() == {
        "queue": "emails",
        "accepted": 150,
        "processed": 143,
        "lag": 7,
        "retried": 17,
        "parked": 2,
        "dead": 4,
        "in_flight": 6,
        "failed": 2,
    }


async def test_a_queue_that_nobody_has_read_is_behind_by_what_the_log_still_has(cluster: Cluster) -> None:
    cluster.started = {TopicPartition("jobs.emails", 0): 40}
    found = await cluster.figures()
    assert (found["accepted"], found["lag"], found["processed"]) == (150, 110, 40)


async def test_a_commit_below_the_start_of_the_log_counts_from_there(cluster: Cluster) -> None:
    cluster.started = {TopicPartition("jobs.emails", 0): 95}
    cluster.commits = {
        TopicPartition("jobs.emails", 0): ahead(90, (92, 97)),
        TopicPartition("jobs.emails", 1): Committed(50, ""),
    }
    assert (await cluster.figures())["lag"] == 3


async def test_a_queue_without_topics_is_empty(cluster: Cluster) -> None:
    cluster.ended = {}
    found = await cluster.figures()
    assert [found[name] for name in ("accepted", "processed", "lag", "parked", "dead")] == [0] * 5


async def test_without_the_database_only_what_it_knows_is_missing(cluster: Cluster) -> None:
    cluster.counts = TransientError("away")
    found = await cluster.figures()
    assert (found["accepted"], found["in_flight"], found["failed"]) == (150, None, None)


async def test_however_many_ask_the_cluster_is_asked_once_in_a_while(cluster: Cluster) -> None:
    queues = cluster.queues()
    await asyncio.gather(*(queues.figures() for _ in range(20)))
    assert cluster.asked == 1
    cluster.now += FRESH
    await queues.figures()
    assert cluster.asked == 2


async def test_the_json_form_has_what_the_text_form_has() -> None:
    bench = Bench()
    async with bench.client() as client:
        await client.post("/api/v1/jobs", json=JOB)
        text = await (await client.get("/metrics")).text()
        shown = await (await client.get("/metrics/json")).json()

    def moving(name: str) -> bool:
        """Whether the number is another one with every look."""
        return name.startswith(("process_", "python_gc", "keylane_http"))

    expected = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created") and not moving(sample.name)
    }
    found = {
        (sample["name"], tuple(sorted(sample["labels"].items()))): sample["value"]
        for metric in shown["metrics"]
        for sample in metric["samples"]
        if not moving(sample["name"])
    }
    assert found == expected
    assert found["keylane_accepted_total", (("kind", "job"), ("type", "notification.signin"))] == 1
    kinds = {metric["name"]: metric["kind"] for metric in shown["metrics"]}
    assert kinds["keylane_enqueue_duration_seconds"] == "histogram"


async def test_the_process_tells_what_it_is_and_uses() -> None:
    async with Bench().client() as client:
        found = await (await client.get("/api/v1/metrics/system")).json()
    assert found["pid"] == os.getpid()
    assert found["memory"]["resident_bytes"] > 10_000_000
    assert found["cpu"]["user_seconds"] > 0
    assert 0 < found["files"]["open"] < found["files"]["limit"]
    assert len(found["garbage_collector"]) == len(gc.get_stats())
    assert found["event_loop"]["tasks"] > 0
    assert found["versions"]["keylane"] == "1.2.3"
    assert {"python", "aiohttp", "aiokafka"} <= set(found["versions"])


async def test_a_loop_that_was_kept_is_seen_and_remembered() -> None:
    lag = LoopLag()
    lag.start()
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.4
    while loop.time() < until:
        """Keep the loop."""

    async def seen() -> bool:
        return lag.most >= 0.1

    await eventually(seen)
    system = System("1", lag)
    assert system.view().event_loop.most_lag_seconds >= 0.1
    lag.stop()


class Someone:
    """Lets everybody in as this caller."""

    def __init__(self, tenant: str | None, *scopes: str) -> None:
        self._caller = Caller("key:k", tenant, frozenset(scopes))

    def at(self, path: str, scope: str) -> Any:
        async def identify(request: Any) -> Caller:
            return self._caller

        return identify


@pytest.mark.parametrize("path", [prefix + path for prefix in ("", "/api/v1") for path in PATHS])
@pytest.mark.parametrize(
    ("caller", "status"),
    [
        (Someone(None, "admin"), 200),
        (Someone("acme", "admin"), 403),
        (Someone(None, "jobs:read", "dlt:read", "events:write"), 403),
    ],
    ids=["operator", "tenant's administrator", "without the scope"],
)
async def test_figures_are_for_operators_and_the_prometheus_text_is_for_all(
    path: str, caller: Someone, status: int
) -> None:
    async with Bench(changes={"access": caller}).client() as client:
        assert (await client.get(path)).status == status
        assert (await client.get("/metrics")).status == 200

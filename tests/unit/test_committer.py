"""Commits that are cut short, late or refused never keep the next one from being made."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from streams.adapters.metrics import PrometheusMetrics
from streams.core.commands import Commit
from streams.engine.committer import Committer
from streams.engine.telemetry import Telemetry
from streams.job import TransientError
from streams.ports import OwnershipLostError, TopicPartition, Tracing
from tests.tracing_doubles import MemoryTracing, attributes, parent_of, row_of


class Core:
    """Always has something to commit; notes what became of it."""

    def __init__(self) -> None:
        self.under_way = False
        self.ends: list[bool] = []

    def commit(self) -> Commit | None:
        if self.under_way:
            return None
        self.under_way = True
        return Commit({(0, -1): (5, "")})

    def committed(self, *, acknowledged: bool, now: float) -> None:
        self.under_way = False
        self.ends.append(acknowledged)


class Bench:
    def __init__(self, commit: Any, tracing: Tracing | None = None) -> None:
        self.core, self.epoch = Core(), 0
        family = SimpleNamespace(source="t", place=lambda partition, shelf: TopicPartition("t", partition))
        telemetry = Telemetry("g", PrometheusMetrics(), self, None, "t.g.dlt", tracing)  # type: ignore[arg-type]
        consumer = SimpleNamespace(commit=commit)
        self.committer = Committer(self, family, consumer, telemetry, time.time, patience=0.2)

    def pump(self) -> None: ...

    async def flush(self) -> None: ...


async def fine(offsets: Any) -> None: ...


async def hangs(offsets: Any) -> None:
    await asyncio.Event().wait()


def raises(error: Exception) -> Any:
    async def commit(offsets: Any) -> None:
        raise error

    return commit


@pytest.mark.parametrize(
    ("commit", "acknowledged"),
    [
        (fine, True),
        (hangs, False),
        (raises(TransientError("away")), False),
        (raises(OwnershipLostError("gone")), False),
    ],
)
async def test_every_commit_comes_to_an_end_the_core_is_told_of(commit, acknowledged) -> None:
    bench = Bench(commit)
    await bench.committer.commit()
    assert bench.core.ends == [acknowledged]


async def test_a_commit_that_is_cancelled_half_way_leaves_room_for_the_last_one() -> None:
    sent = asyncio.Event()

    async def commit(offsets: Any) -> None:
        if not sent.is_set():
            sent.set()
            await asyncio.Event().wait()

    bench = Bench(commit)
    loop = asyncio.create_task(bench.committer.run(0))
    await sent.wait()
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await bench.committer.commit()
    assert bench.core.ends == [False, True]


async def test_an_answer_that_comes_after_the_ownership_ended_touches_nothing() -> None:
    async def commit(offsets: Any) -> None:
        bench.epoch += 1

    bench = Bench(commit)
    await bench.committer.commit()
    assert bench.core.ends == []


@pytest.mark.parametrize(
    ("commit", "kind"),
    [
        (fine, None),
        (raises(OwnershipLostError("gone")), "OwnershipLostError"),
        (raises(TransientError("away")), "TransientError"),
        (hangs, "CancelledError"),
    ],
)
async def test_a_commit_is_a_span_of_its_own_that_says_what_went_wrong(commit: Any, kind: str | None) -> None:
    traces = MemoryTracing()
    await Bench(commit, traces).committer.commit()
    span = traces.one("commit t")
    assert parent_of(span) is None
    assert row_of(span).name == "commit {topic}"
    found = attributes(span)
    assert (found["messaging.operation.type"], found["messaging.consumer.group.name"]) == ("settle", "g")
    assert found.get("error.type") == kind
    assert set(row_of(span).always) == set(found) - {"error.type"}

"""Where the gateway's processor time goes, by the part of it and of its libraries that spends it.

Invariant: the shares come to a hundred; what C code spends counts for the Python function that called it.
"""

from __future__ import annotations

import pstats
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.gateway.servers import profiled
from tests.bench.page import Chapter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.gateway.scenarios import Setting

# The first that is part of a file's path names its place in the table.
PARTS = (
    ("/aiohttp/", "aiohttp"),
    ("/aiosignal/", "aiohttp"),
    ("/aiokafka/", "aiokafka"),
    ("/redis/", "redis-py"),
    ("/pydantic/", "pydantic"),
    ("/json/", "json"),
    ("/prometheus_client/", "prometheus-client"),
    ("/structlog/", "structlog and logging"),
    ("/logging/", "structlog and logging"),
    ("/asyncio/", "asyncio and uvloop"),
    ("/uvloop/", "asyncio and uvloop"),
    ("/schemas/", "keylane: contracts and Avro"),
    ("/streams/gateway/", "keylane: gateway"),
    ("/streams/adapters/kafka/", "keylane: Kafka"),
    ("/streams/adapters/", "keylane: Redis, metrics, keys"),
    ("/streams/", "keylane: the rest"),
)
_REST = "the rest"
_BUILT_IN = "~"


def profile(setting: Setting) -> Chapter:
    """The gateway under cProfile, at work on single jobs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile"
        with profiled(setting.settings, file, **setting.more) as server:
            setting.measured(server, connections=64, headers=setting.headers)
            server[1].send_signal(signal.SIGUSR1)
            measured = setting.measured(server, connections=64, headers=setting.headers)
        seen: Any = pstats.Stats(str(file))
    seconds, calls = _spent(seen.stats)
    whole, requests = sum(seconds.values()), measured.answers.rate * setting.seconds
    return Chapter(
        title="Where the time goes",
        text=f"Single jobs over 64 connections, under cProfile ({measured.answers.rate:,.0f} requests/s, since it "
        "costs much itself): the share of the time outside of other parts, and calls of Python functions per request.",
        head=("part", "share", "calls"),
        rows=[[part, f"{spent / whole:.1%}", f"{calls[part] / requests:.0f}"] for part, spent in seconds.most_common()],
    )


def _spent(stats: dict[Any, Any]) -> tuple[Counter[str], Counter[str]]:
    seconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for (file, _, _), (_, times, own, _, callers) in stats.items():
        if file != _BUILT_IN:
            seconds[part_of(file)] += own
            calls[part_of(file)] += times
            continue
        for part, spent in _by_caller(callers):
            seconds[part] += spent
    return seconds, calls


def _by_caller(callers: dict[Any, Any]) -> Iterator[tuple[str, float]]:
    for (file, _, _), (_, _, own, _) in callers.items():
        yield part_of(file), own


def part_of(file: str) -> str:
    """The part of the table a file belongs to."""
    return next((part for name, part in PARTS if name in file), _REST)

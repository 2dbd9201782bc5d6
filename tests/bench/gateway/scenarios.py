"""What is measured at the gateway: single posts and batches beside the bound, and how soon a job begins."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.arithmetic import Spread, quantile, ratios
from tests.bench.gateway import catalogue
from tests.bench.gateway.maker import NUMBER
from tests.bench.gateway.servers import KEYLANE, environment, keylane, load, minimum
from tests.bench.launch import ROOT
from tests.bench.page import Chapter, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psutil

    from streams.settings import Settings
    from tests.bench.gateway.maker import Answers

TOPIC = "bench-minimum"
CONNECTIONS = (1, 32, 64, 256)
_PATH = "/api/v1/jobs"
_BATCH = 100
_BACKLOG = 600.0  # seconds a worker may take to start, and to work off what other loads have left
_JOB = {
    "type": "notification.signin",
    "tenant": "bench",
    "payload": {
        "user_id": f"user-{NUMBER}",
        "email": "bat@example.com",
        "name": "Bat",
        "provider": "google",
        "ip_address": "203.0.113.7",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
        "timestamp": "2026-11-24T10:05:00+08:00",
    },
}
JOB = json.dumps(_JOB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The surroundings.

    Attributes:
        more: Settings of the gateway.
        headers: Of each request to it.
    """

    settings: Settings
    rounds: int
    seconds: float
    more: Mapping[str, Any]
    headers: Mapping[str, str]

    def keylane(self) -> Any:
        """The gateway, as a context manager."""
        return keylane(self.settings, **self.more)

    def measured(self, server: tuple[int, psutil.Process], **more: Any) -> Measured:
        """A load of single jobs, unless ``more`` says otherwise, on a server."""
        port, process = server
        before = _spent(process)
        asked = {"path": _PATH, "body": JOB, "seconds": self.seconds, "first": time.time_ns() // 1000 % 10**9, **more}
        answers = load(port=port, **asked)
        # The load's own warming up costs as well.
        return Measured(answers, (_spent(process) - before) / (answers.rate * self.seconds))


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@dataclass(frozen=True, slots=True)
class Measured:
    """One load on one server; ``cpu`` is seconds of its process per request."""

    answers: Answers
    cpu: float


def posts(setting: Setting) -> Chapter:
    """Single jobs, the bound and the gateway in turns."""
    found: dict[tuple[str, int], list[Measured]] = {}
    with minimum(setting.settings, TOPIC) as bound, setting.keylane() as ours:
        for number in range(setting.rounds):
            for connections in CONNECTIONS:
                servers = [("minimum", bound, {}), ("keylane", ours, setting.headers)]
                for name, server, headers in servers if number % 2 == 0 else reversed(servers):
                    measured = setting.measured(server, connections=connections, headers=headers)
                    found.setdefault((name, connections), []).append(measured)
                    _tell(f"{name}, {connections} connections: {measured.answers.rate:,.0f}/s")
    return Chapter(
        title="Single jobs",
        text=f"A job of {len(JOB)} bytes a request, every check switched on, one process each.",
        head=("server", "connections", "requests/s", "P50 ms", "P95 ms", "P99 ms", "µs of CPU"),
        rows=[_row(name, connections, each) for (name, connections), each in sorted(found.items(), key=_by_place)],
        targets=_post_targets(found),
    )


def _by_place(item: tuple[tuple[str, int], Any]) -> tuple[int, str]:
    return item[0][1], item[0][0]


def _row(name: str, connections: int, measured: list[Measured]) -> list[str]:
    middle = sorted(measured, key=lambda each: each.answers.rate)[len(measured) // 2]
    answers = middle.answers
    times = [f"{seconds * 1000:.1f}" for seconds in (answers.p50, answers.p95, answers.p99)]
    return [name, str(connections), f"{answers.rate:,.0f}", *times, f"{middle.cpu * 1e6:.0f}"]


def _post_targets(found: Mapping[tuple[str, int], list[Measured]]) -> list[Target]:
    def values(name: str, connections: int, field: str) -> list[float]:
        return [getattr(each.answers, field) for each in found[name, connections]]

    return [
        *(
            Target(
                what=f"requests/s at {connections} connections, to the minimum's",
                found=ratios(values("keylane", connections, "rate"), values("minimum", connections, "rate")),
                bound=0.6,
            )
            for connections in CONNECTIONS
        ),
        Target(
            what="P95 at 64 connections",
            found=Spread.of([seconds * 1000 for seconds in values("keylane", 64, "p95")]),
            bound=50,
            at_least=False,
            unit=" ms",
        ),
        Target(
            what="P95 at 256 connections, to the minimum's",
            found=ratios(values("keylane", 256, "p95"), values("minimum", 256, "p95")),
            bound=1.7,
            at_least=False,
        ),
    ]


def half(setting: Setting) -> Chapter:
    """Half of what it can take, by the clock."""
    found = []
    with setting.keylane() as ours:
        for _ in range(setting.rounds):
            top = setting.measured(ours, connections=64, headers=setting.headers).answers.rate
            found.append(setting.measured(ours, connections=64, headers=setting.headers, rate=top / 2).answers)
            _tell(f"half of {top:,.0f}/s: P99 {found[-1].p99 * 1000:.1f} ms")
    return Chapter(
        title="Half of the top rate",
        text="Requests come by the clock over 64 connections, at half of the rate that was measured right before.",
        head=("requests/s", "P50 ms", "P99 ms"),
        rows=[[f"{each.rate:,.0f}", f"{each.p50 * 1000:.1f}", f"{each.p99 * 1000:.1f}"] for each in found],
        targets=[
            Target(
                what="P99 at half of the top rate",
                found=Spread.of([each.p99 * 1000 for each in found]),
                bound=20,
                at_least=False,
                unit=" ms",
            )
        ],
    )


def batches(setting: Setting) -> Chapter:
    """A hundred jobs in one request, beside single ones."""
    body = json.dumps({"jobs": [_numbered(number) for number in range(_BATCH)]})
    single, many = [], []
    with setting.keylane() as ours:
        for _ in range(setting.rounds):
            single.append(setting.measured(ours, connections=32, headers=setting.headers).answers.rate)
            asked = {"path": f"{_PATH}:batch", "body": body, "connections": 8, "headers": setting.headers}
            many.append(setting.measured(ours, **asked).answers.rate * _BATCH)
            _tell(f"single {single[-1]:,.0f}/s, in batches {many[-1]:,.0f}/s")
    return Chapter(
        title="Batches of 100",
        text="Jobs per second: single ones over 32 connections, batches over 8.",
        head=("single", "in batches"),
        rows=[[f"{one:,.0f}", f"{other:,.0f}"] for one, other in zip(single, many, strict=True)],
        targets=[Target(what="jobs/s in batches, to single posts", found=ratios(many, single), bound=8)],
    )


def _numbered(number: int) -> dict[str, Any]:
    return json.loads(JOB.replace(f"user-{NUMBER}", f"user-{NUMBER}-{number}"))  # type: ignore[no-any-return]


def light(setting: Setting) -> Chapter:
    """100 requests a second, until their handlers begin."""
    found = []
    with tempfile.TemporaryDirectory() as folder, setting.keylane() as (port, _):
        starts = Path(folder) / "starts"
        command = [*KEYLANE, "worker", "--group", catalogue.QUEUE]
        named = environment(setting.settings, **setting.more, schema_registry_url=f"http://127.0.0.1:{port}/registry")
        worker = subprocess.Popen(command, cwd=ROOT, env=named | {catalogue.STARTS: str(starts)})
        try:
            _begun(setting, port, starts, 0, patience=_BACKLOG)
            for number in range(setting.rounds):
                found.append(_begun(setting, port, starts, number + 1))
                _tell(f"202 to handler: P95 {quantile(found[-1], 0.95) * 1000:.1f} ms")
        finally:
            worker.terminate()
            worker.wait(30)
    return Chapter(
        title="From the answer to the handler",
        text="100 jobs a second; milliseconds from the 202 until the handler begins (0: it had begun before).",
        head=("jobs", "P50 ms", "P95 ms"),
        rows=[[str(len(each)), *(f"{quantile(each, share) * 1000:.1f}" for share in (0.5, 0.95))] for each in found],
        targets=[
            Target(
                what="202 to handler, P95",
                found=Spread.of([quantile(each, 0.95) * 1000 for each in found]),
                bound=10,
                at_least=False,
                unit=" ms",
            )
        ],
    )


def _begun(setting: Setting, port: int, starts: Path, number: int, patience: float = 20.0) -> list[float]:
    asked = {
        "rate": 100,
        "seconds": 2 * setting.seconds,
        "connections": 8,
        "keep": True,
        "first": (number + 1) * 1_000_000,
    }
    times = load(port=port, path=_PATH, body=JOB, headers=dict(setting.headers), **asked).times
    until = time.monotonic() + patience
    while True:
        began = _read(starts)
        if all(f"user-{each}" in began for each in times):
            break
        if time.monotonic() > until:
            raise TimeoutError(f"{len(times)} jobs were accepted, {len(began)} began")
        time.sleep(0.1)
    return [max(0.0, began[f"user-{each}"] - at) for each, at in times.items()]


def _read(starts: Path) -> dict[str, float]:
    if not starts.exists():
        return {}
    lines = [line.split() for line in starts.read_text().splitlines()]
    return {words[0]: float(words[1]) for words in lines if len(words) == 2}


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""How long the real ``keylane worker`` needs to its first record, what its command line imports, and what it weighs."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from streams.dev import ports
from tests.bench.arithmetic import Spread
from tests.bench.catalogue import FILE, GROUP
from tests.bench.launch import ROOT
from tests.bench.page import Chapter, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.settings import Settings
    from tests.bench.bench import Bench

_KEYLANE = Path(sys.executable).parent / "keylane"
_OURS = {"KEYLANE_CATALOGUE": "tests.bench.catalogue:discover"}
_PATIENCE = 60.0  # seconds
_LOOK = 0.002  # seconds between two looks
_SETTLED = 5.0  # seconds from ready to idle
_IMPORTS = 5  # per round
_IMPORT = "import time; t = time.perf_counter(); import streams.cli; print(time.perf_counter() - t)"


class Command:
    """The ``keylane`` command on the benchmark's servers."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        assert settings.database_url is not None
        self.file = folder / "firsts"
        self.file.touch()
        self.probe, gateway = ports.any_free(), ports.any_free()
        self.gateway = f"http://127.0.0.1:{gateway}/health/ready"
        self.worker = f"http://127.0.0.1:{self.probe}/health/ready"
        self._env = os.environ | {
            "PYTHONPATH": str(ROOT),
            "KEYLANE_DATA_DIR": str(folder),
            "KEYLANE_KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers),
            "KEYLANE_REDIS_URL": str(settings.redis_url),
            "KEYLANE_DATABASE_URL": settings.database_url.get_secret_value(),
            "KEYLANE_GATEWAY_PORT": str(gateway),
            FILE: str(self.file),
        }

    @contextlib.contextmanager
    def running(self, *words: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """The command at work; it is asked to end at the end."""
        process = subprocess.Popen(
            [_KEYLANE, *words], cwd=ROOT, env=self._env | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(_PATIENCE)

    def run(self, *words: str, text: str = "", **env: str) -> None:
        """Run the command to its end."""
        called = {"cwd": ROOT, "env": self._env | env, "input": text.encode()}
        subprocess.run([_KEYLANE, *words], capture_output=True, check=True, **called)


def startup(bench: Bench) -> Chapter:
    """Start, import, weigh."""
    with tempfile.TemporaryDirectory() as folder:
        command = Command(bench.settings, Path(folder))
        for catalogue in ({}, _OURS):
            command.run("topics", "apply", **catalogue)
        with command.running("gateway"):
            _until(lambda: _answers(command.gateway), "the gateway does not get ready")
            firsts = [_first(command, number) for number in range(bench.rounds)]
            idles = [_idle(command) for _ in range(bench.rounds)]
    imports = [statistics.median(_import() for _ in range(_IMPORTS)) for _ in range(bench.rounds)]
    bench.tell(f"  first record {firsts}, idle {idles}, import {imports}")
    rows = zip(firsts, imports, idles, strict=True)
    return Chapter(
        title="Start of a worker",
        text="From the start of the `keylane worker` process of one group to the first line of the handler of a record "
        "that waits; `import streams.cli` in a fresh interpreter; and the memory of a worker of all groups of this "
        f"repository, {_SETTLED:g} s after it got ready.",
        head=("", "first record, s", "import, s", "idle, MB"),
        rows=[[f"round {n}", f"{a:.2f}", f"{b:.2f}", f"{c:.0f}"] for n, (a, b, c) in enumerate(rows, 1)],
        targets=[
            Target(what="start to the first record", found=Spread.of(firsts), bound=1.5, at_least=False, unit=" s"),
            Target(what="import of the CLI", found=Spread.of(imports), bound=0.3, at_least=False, unit=" s"),
            Target(what="idle worker", found=Spread.of(idles), bound=80, at_least=False, unit=" MB"),
        ],
    )


def _first(command: Command, number: int) -> float:
    data = {
        "reservation_id": f"r-{number}",
        "resource_id": "court-1",
        "customer_email": "guest@example.com",
        "customer_name": "Guest",
        "starts_at": "2026-12-01T10:00:00+08:00",
        "ends_at": "2026-12-01T12:00:00+08:00",
        "quantity": 2,
    }
    record = {"type": "reservation.confirmed", "tenant": "bench", "entity": f"r-{number}", "data": data}
    command.run("publish", "-", text=json.dumps(record))
    before = command.file.read_text()
    begin = time.time()
    with command.running("worker", "--group", GROUP, **_OURS):
        _until(lambda: command.file.read_text() != before, "the worker runs nothing")
    return float(command.file.read_text().split()[-1]) - begin


def _idle(command: Command) -> float:
    with command.running("worker", KEYLANE_WORKER_PORT=str(command.probe)) as process:
        _until(lambda: _answers(command.worker), "the worker does not get ready")
        time.sleep(_SETTLED)
        return psutil.Process(process.pid).memory_info().rss / 1e6


def _import() -> float:
    done = subprocess.run([sys.executable, "-c", _IMPORT], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError):
        return False


def _until(reached: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {_PATIENCE:g} s")
        time.sleep(_LOOK)

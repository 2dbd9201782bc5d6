"""The servers that are compared, as processes on ports of their own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psutil

from streams.dev import ports
from tests.bench.gateway.maker import Answers, Load
from tests.bench.launch import ROOT, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from streams.settings import Settings

KEYLANE = [sys.executable, "-c", "from streams.cli import main; main()"]
_START = 30.0  # seconds


@contextlib.contextmanager
def minimum(settings: Settings, topic: str) -> Iterator[tuple[int, psutil.Process]]:
    """The bound."""
    port = ports.any_free()
    command = [sys.executable, "-m", "tests.bench.gateway.minimum", str(settings.kafka_bootstrap_servers), topic]
    with _running([*command, str(port)], os.environ, port) as process:
        yield port, process


@contextlib.contextmanager
def keylane(settings: Settings, *options: str, **more: object) -> Iterator[tuple[int, psutil.Process]]:
    """The gateway, with these settings beside the addresses of the servers."""
    port = ports.any_free()
    with _running([*KEYLANE, "gateway", "--port", str(port), *options], environment(settings, **more), port) as process:
        yield port, process


@contextlib.contextmanager
def profiled(settings: Settings, file: Path, **more: object) -> Iterator[tuple[int, psutil.Process]]:
    """The gateway under cProfile, which writes to the file when it ends."""
    port = ports.any_free()
    command = [sys.executable, "-m", "tests.bench.gateway.profiled", str(file), "gateway", "--port", str(port)]
    with _running(command, environment(settings, **more), port) as process:
        yield port, process


def environment(settings: Settings, **more: object) -> dict[str, str]:
    """Of a keylane process."""
    assert settings.database_url is not None
    named = {
        "kafka_bootstrap_servers": settings.kafka_bootstrap_servers,
        "redis_url": settings.redis_url,
        "database_url": settings.database_url.get_secret_value(),
        "data_dir": settings.data_dir,
        "log_level": "warning",
        **more,
    }
    return os.environ | {f"KEYLANE_{name.upper()}": str(value) for name, value in named.items()}


@contextlib.contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str], port: int) -> Iterator[psutil.Process]:
    child = subprocess.Popen(command, cwd=ROOT, env=dict(environment))
    try:
        _wait(child, port)
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(_START)


def _wait(child: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until:
        if child.poll() is not None:
            raise RunError(f"{child.args!r} ended with {child.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.05)
    raise RunError(f"{child.args!r} does not listen")


def load(**more: Any) -> Answers:
    """Make a load from a process of its own.

    Raises:
        RunError: An answer was no success.
    """
    command = [sys.executable, "-m", "tests.bench.gateway.maker", json.dumps(asdict(Load(**more)))]
    found = Answers(**json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout))
    if set(found.statuses) - {"202"}:
        raise RunError(f"answers were {found.statuses}, the last one {found.body}")
    return found

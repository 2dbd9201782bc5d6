"""The peers' own environment, made from ``requirements/bench.lock`` and made again when that changes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from tests.bench.broker import FOLDER

LOCK = Path("requirements") / "bench.lock"


def python() -> Path:
    """The interpreter of the peers' environment."""
    folder = (FOLDER / "venv").absolute()
    found, stamp = folder / "bin" / "python", folder / ".lock"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"installing the peers into {FOLDER / 'venv'}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        install = [found, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", LOCK]
        subprocess.run(install, check=True)
        stamp.write_text(digest)
    return found


def version(distribution: str) -> str:
    """Of a peer, as the lock file has it.

    Raises:
        LookupError: The lock file does not name it.
    """
    for line in LOCK.read_text().splitlines():
        name, _, rest = line.partition("==")
        if name == distribution:
            return rest.split()[0]
    raise LookupError(f"{distribution} is not in {LOCK}: make lock")

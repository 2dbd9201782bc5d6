"""Guards the import names of this distribution, since others use ``schemas`` and ``consumers`` too.

Invariant: each name leads to a package of ours (a deployment may keep its own copy), or the start is refused.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# A module by which each package is known; nobody else's package of that name has it.
MARKS = {"schemas": "contract.py", "consumers": "discovery.py"}


class ForeignPackageError(Exception):
    """One of our names is somebody else's package; the message says which and where it lies."""


def check_packages() -> None:
    """Make sure that the names lead to our packages; nothing is imported for that.

    Raises:
        ForeignPackageError: A name is missing, or leads to another package.
    """
    for name, mark in MARKS.items():
        found = find_spec(name)
        place = Path(found.origin).parent if found is not None and found.origin else None
        if place is None or not (place / mark).exists():
            raise ForeignPackageError(
                f"the package {name!r} is taken from {place or 'nowhere'}, which is not keylane's: another "
                "distribution or a folder on the path has that name; use an environment of its own"
            )

"""Guards the three import names of this distribution, since others use ``schemas`` and ``consumers`` too.

Invariant: ``streams``, ``schemas`` and ``consumers`` are imported from one place, or the start is refused.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

NAMES = ("streams", "schemas", "consumers")


class ForeignPackageError(Exception):
    """One of our names is somebody else's package; the message says which and where it lies."""


def check_packages() -> None:
    """Make sure that the names lead to our packages; nothing is imported for that.

    Raises:
        ForeignPackageError: A name is missing or lies elsewhere than the others.
    """
    home = Path(__file__).resolve().parents[1]
    for name in NAMES:
        found = find_spec(name)
        place = Path(found.origin).resolve() if found is not None and found.origin else None
        if place is None or place.parents[1] != home:
            raise ForeignPackageError(
                f"the package {name!r} is taken from {place.parent if place else 'nowhere'} instead of {home / name}: "
                "another distribution or a folder on the path has that name; use an environment of its own"
            )

"""Programs inside installed wheels, found without importing the package: an import may start servers or be slow.

Invariant: what is missing is named, with what to install.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from streams.dev.errors import StackError


def program(package: str, path: str) -> Path:
    """The file ``path`` inside the installed ``package``.

    Raises:
        StackError: The package or the file is not there.
    """
    spec = importlib.util.find_spec(package)
    found = Path(spec.origin).parent / path if spec and spec.origin else None
    if found is None or not found.exists():
        raise StackError(f"there is no {Path(path).name} from {package}: install keylane with its 'dev' extra")
    return found

"""All contracts of this package: every folder beside this file that holds a ``model.py`` with a ``CONTRACT``.

Invariant: no two contracts share a name or an Avro full name.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.contract import Contract


def contracts() -> tuple[Contract, ...]:
    """The contracts found, ordered by folder name.

    Raises:
        ValueError: Two contracts share a name or an Avro full name.
    """
    folders = sorted(path.parent.name for path in Path(__file__).parent.glob("*/model.py"))
    found = tuple(importlib.import_module(f"schemas.{folder}.model").CONTRACT for folder in folders)
    _refuse_twins("name", [contract.name for contract in found])
    _refuse_twins("Avro full name", [contract.fullname for contract in found])
    return found


def _refuse_twins(what: str, names: Sequence[str]) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f"contracts share the {what} {', '.join(twins)}")

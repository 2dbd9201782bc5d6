"""What a check came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Status = Literal["ok", "warn", "fail"]
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """``found`` is what there is, ``advice`` what to do about it; nothing where it is sound."""

    check: str
    status: Status
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """It is sound."""
    return Finding(check, "ok", found)


def warn(check: str, found: str, advice: str) -> Finding:
    """It works, but not as well as it could, or not for ever."""
    return Finding(check, "warn", found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """Something promised does not hold, or nothing works."""
    return Finding(check, "fail", found, advice)


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

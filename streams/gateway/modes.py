"""How callers of each route may prove who they are, by settings.

Invariant: a route's modes are those of the longest pattern that covers it, else the default ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Mode(StrEnum):
    """A way to prove who asks; ``NONE``: nobody has to."""

    NONE = "none"
    KEY = "key"
    HMAC = "hmac"
    JWT = "jwt"


def parsed(text: str) -> frozenset[Mode]:
    """The modes of a comma-separated list.

    Raises:
        ValueError: There is none, or one that does not exist.
    """
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in set(Mode)]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no mode; there are {', '.join(Mode)}")
    return frozenset(map(Mode, names))


@dataclass(frozen=True, slots=True)
class Modes:
    """The default modes, and those of routes by pattern: a route's own, or the beginning of its path up to a slash."""

    default: frozenset[Mode]
    routes: Mapping[str, frozenset[Mode]]

    @property
    def used(self) -> frozenset[Mode]:
        """All modes that some route may have."""
        return self.default.union(*self.routes.values())

    @property
    def open(self) -> str | None:
        """Where callers may come without credentials: ``""`` for the default, a pattern, None for nowhere."""
        if Mode.NONE in self.default:
            return ""
        return next((pattern for pattern, modes in self.routes.items() if Mode.NONE in modes), None)

    def of(self, path: str) -> frozenset[Mode]:
        """The modes of a route."""
        covering = [pattern for pattern in self.routes if _covers(pattern, path)]
        return self.routes[max(covering, key=len)] if covering else self.default

    def strays(self, paths: Iterable[str]) -> list[str]:
        """The patterns that cover none of the routes."""
        known = list(paths)
        return [pattern for pattern in self.routes if not any(_covers(pattern, path) for path in known)]


def _covers(pattern: str, path: str) -> bool:
    return path == pattern or path.startswith(pattern.rstrip("/") + "/")

"""Where to read a partition of a topic from, and what is missing there: never a jump that nobody is told of.

Invariant: reading never begins behind a record that the log still has and no commit calls finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streams.core import commit_map

if TYPE_CHECKING:
    from collections.abc import Iterable

Reason = Literal["new", "missing", "expired", "beyond"]
"""``new``: no commit, and no sign that the group ever worked. ``missing``: no commit, although it did.
``expired``: the log starts behind the commit. ``beyond``: the commit tells of records that the log never had."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Reading goes on at ``begin`` and not where the group stood.

    Attributes:
        stood: The next offset it would have read; None where there was no commit.
        dropped: Records the log dropped before the group finished them, at most: offsets without a record count too.
    """

    reason: Reason
    stood: int | None
    begin: int
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Begin:
    """Read from ``offset`` with the commit's ``metadata``; ``gap``: what there is to tell about it."""

    offset: int
    metadata: str
    gap: Gap | None = None


def begin(commit: tuple[int, str] | None, start: int, end: int, *, worked: bool) -> Begin:
    """Where to begin.

    Args:
        commit: Offset and metadata; None if there is none.
        start: The first offset that the log still has.
        end: The offset behind its last one.
        worked: Whether something else shows that the group has worked on this partition before.
    """
    if commit is None:
        reason: Reason = "missing" if worked else "new"
        return Begin(start, "", Gap(reason, None, start) if end else None)
    offset, metadata = commit
    known = commit_map.decode(offset, metadata)
    if max(offset, *(stop for _, stop in known.finished), 0) > end:
        return Begin(start, "", Gap("beyond", offset, start))
    if offset >= start:
        return Begin(offset, metadata)
    # The map counts from the committed offset, so it is written anew for the place where reading goes on.
    left = [(max(first, start), stop) for first, stop in known.finished if stop > start]
    text, _ = commit_map.encode(start, left, known.fence)
    dropped = unfinished(offset, start, known.finished)
    return Begin(start, text, Gap("expired", offset, start, dropped) if dropped else None)


def unfinished(first: int, stop: int, finished: Iterable[tuple[int, int]]) -> int:
    """How many offsets in ``[first, stop)`` no interval of ``finished`` (disjoint) holds."""
    return stop - first - sum(max(0, min(b, stop) - max(a, first)) for a, b in finished)

"""What the core asks of its shell, and what the shell tells it of a run: plain values.

``Start`` and the appends name entries; the shell reads their records, the core never does more than move them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.core.headers import Level
    from streams.core.retry import RetryPolicy
    from streams.core.track import Entry


Run = tuple["Entry", ...]
"""What one call of :meth:`~streams.core.group.Core.finished` ends: one entry, or a batch in order."""


class Start(NamedTuple):
    """Begin these runs."""

    runs: list[Run]


class Append(NamedTuple):
    """Write the entry's record to ``level`` (same partition number), then report ``Appended``.

    ``due`` in seconds since the epoch (0: at once). ``failure`` is None for a record that only follows or is parked.
    """

    entry: Entry
    level: Level
    due: float
    failure: Any = None


class DeadLetter(NamedTuple):
    """Write the entry's record to the dead letters at ``level``; ``hold``: its key waits behind it."""

    entry: Entry
    level: Level
    hold: bool
    failure: Any


class Commit(NamedTuple):
    """Commit offset and metadata per (partition, shelf), all in one request; then report ``Committed``."""

    offsets: Mapping[tuple[int, int], tuple[int, str]]


class Pause(NamedTuple):
    """Stop fetching a partition of a shelf's topic."""

    partition: int
    shelf: int


class Resume(NamedTuple):
    """Fetch it again."""

    partition: int
    shelf: int


class Fetch(NamedTuple):
    """Read the one record at ``offset`` of the dead-letter topic, then report it with ``fetched``."""

    partition: int
    offset: int


Command = Start | Append | DeadLetter | Commit | Pause | Resume | Fetch


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed. ``final``: never retry. ``after``: seconds the handler asked to wait. ``draw`` in [0, 1)."""

    policy: RetryPolicy
    failure: Any
    final: bool = False
    after: float | None = None
    draw: float = 0.5


@dataclass(frozen=True, slots=True)
class Blocked:
    """Something outside is away: try again after ``seconds``; the attempt does not count."""

    seconds: float


class Succeeded(NamedTuple):
    """The record is finished."""


class Cancelled(NamedTuple):
    """The record is finished, and its work was not done: somebody cancelled it."""


class NotRun(NamedTuple):
    """The entry of a batch was left untouched behind a failed one of its key."""


SUCCEEDED = Succeeded()
CANCELLED = Cancelled()
NOT_RUN = NotRun()
Result = Succeeded | Cancelled | Failed | Blocked | NotRun

"""Where keys, groups and topics stand, as models for ``/openapi.json``. Times are RFC 3339."""

from __future__ import annotations

from streams.gateway.models import Answer


class UnfinishedView(Answer):
    """The key's records in the source that no commit calls finished.

    ``before`` counts those of other keys in front of the first; ``beyond``, those at the end that were not looked at.
    """

    records: int
    offset: int | None
    published_at: str | None
    before: int
    beyond: int


class LevelView(Answer):
    """The records of a key that wait at one level; ``topic`` is ``retry.<n>`` or ``dlt``, the offset is the first's."""

    level: str
    topic: str
    offset: int
    due_at: str | None
    attempts: int
    records: int


class LetterRef(Answer):
    """A dead letter that is not settled."""

    ref: str
    state: str
    held: bool


class GapView(Answer):
    """Where a group will not read on where it stood."""

    topic: str
    partition: int
    stood: int | None
    begin: int
    reason: str


class HeldView(Answer):
    """What the worker that owns the key's partition holds of it; ``writing``: records on their way to another topic."""

    running: int
    waiting: int
    due_at: str | None
    attempts: int
    writing: int
    awaits_commit: bool


class LaneGroup(Answer):
    """Where a key stands in one group; ``levels`` has what runs first in front, ``held`` what a worker has read."""

    group: str
    source: str
    partition: int
    unfinished: UnfinishedView
    levels: list[LevelView]
    dead_letters: list[LetterRef]
    held: list[HeldView]
    gaps: list[GapView]


class LaneView(Answer):
    """Where a key stands, and what nobody was there to tell."""

    key: str
    at: str
    groups: list[LaneGroup]
    not_known: list[str]


class PartitionView(Answer):
    """A partition of a group's source: records that no commit calls finished, and since when."""

    partition: int
    lag: int
    oldest_at: str | None


class QueueView(Answer):
    """How far a group is; the figures are null where ``problem`` says why they are not known.

    Attributes:
        lag: Records of the source that no commit calls finished.
        oldest_at: When the oldest unfinished record of source and retry topics was published.
        parked: Records that wait in each retry topic, by its number.
        due: How many of them may run now, or wait only for one before them.
        next_due_at: When the next of the others may.
        held_keys: Keys that wait behind a dead letter.
        dead_letters: Those ``open`` or ``parked``.
        published_per_second: Since the look before, as is ``finished_per_second``.
    """

    group: str
    source: str | None = None
    lag: int | None = None
    oldest_at: str | None = None
    parked: dict[int, int] | None = None
    due: int | None = None
    next_due_at: str | None = None
    held_keys: int | None = None
    dead_letters: int | None = None
    published_per_second: float | None = None
    finished_per_second: float | None = None
    partitions: tuple[PartitionView, ...] = ()
    gaps: tuple[GapView, ...] = ()
    problem: str | None = None


class QueueList(Answer):
    """All consumer groups."""

    at: str
    queues: list[QueueView]


class TopicView(Answer):
    """A topic. ``records`` lie between the starts and the ends of its log; of a compacted one fewer may be left.

    ``retention_ms`` is null where records are kept for ever. ``starts`` and ``ends`` are by partition.
    """

    name: str
    partitions: int
    replicas: int
    lagging: int
    leaderless: int
    cleanup: str
    retention_ms: int | None
    records: int
    starts: list[int]
    ends: list[int]


class TopicList(Answer):
    """All topics of the deployment that exist."""

    at: str
    topics: list[TopicView]

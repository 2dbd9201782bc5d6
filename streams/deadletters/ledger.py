"""The states of dead letters, kept in the compacted topic ``keylane.dlt-state``.

Three kinds of records, by key: an operation (``replay/<id>``, ``discard/<id>``), the offsets it takes
(``claim/<id>/<n>``), and a state somebody wrote of one entry (``<topic>/<partition>/<offset>``). All go to partition 0,
so that their order is total. Nothing is written twice under one key by two writers, so compaction loses nothing.
Invariant: an entry belongs to the operation whose claim came first, whatever was written later.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from streams.core.replay import STATES, Kind, State, Where
from streams.deadletters.entry import parse_ref
from streams.ports import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.ports import Record

TOPIC = "keylane.dlt-state"
PARTITION = 0

Status = Literal["running", "finished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A replay or a discard.

    Attributes:
        id: Chosen when it was planned; it resumes the operation.
        at: When it was planned, ms since the epoch.
        filters: What the operator asked for, to be shown.
        ends: End offsets of the replay topics when it was planned: whatever it wrote lies behind them.
        claims: How many claim records it has; 0 until all of them are written.
        entries: How many entries it won.
        beat: Goes up while somebody works on it.
    """

    id: str
    kind: Kind
    by: str
    at: int
    reason: str = ""
    filters: Mapping[str, Any] = field(default_factory=dict)
    ends: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    claims: int = 0
    entries: int = 0
    beat: int = 0
    status: Status = "running"

    @property
    def name(self) -> str:
        """``replay <id>`` or ``discard <id>``."""
        return f"{self.kind} {self.id}"

    @property
    def message(self) -> Message:
        """The record that stores it."""
        return _message(f"{self.kind}/{self.id}", asdict(self))


class Claim(NamedTuple):
    """Entries of one partition taken by an operation, in the order to write them, which is that of the log.

    ``at``: the offset of the first record that claimed them, None where this is it. ``twins``: held copies to free.
    """

    operation: str
    number: int
    where: Where
    offsets: tuple[int, ...]
    at: int | None = None
    twins: Mapping[int, tuple[int, ...]] = {}

    @property
    def message(self) -> Message:
        """The record that stores it."""
        twins = {str(offset): others for offset, others in self.twins.items()}
        value = {"topic": self.where.topic, "partition": self.where.partition, "offsets": self.offsets, "at": self.at}
        return _message(f"claim/{self.operation}/{self.number}", {**value, "twins": twins})


class Note(NamedTuple):
    """A state written of one entry."""

    state: State
    replay_id: str
    by: str
    at: int
    reason: str


def state_message(ref: str, state: State, *, at: int, replay_id: str = "", by: str = "", reason: str = "") -> Message:
    """The record that says which state an entry is in; the engine writes ``resolved`` with it.

    Args:
        ref: ``<dlt topic>/<partition>/<offset>``.
        state: Settles the entry for good.
        at: Now, ms since the epoch.
        replay_id: Of the replay whose copy of the entry finished.
        by: Who says so.
        reason: For people.
    """
    return _message(ref, {"state": state, "replay_id": replay_id, "by": by, "at": at, "reason": reason})


def _message(key: str, value: Mapping[str, Any]) -> Message:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Message(TOPIC, key.encode(), text.encode(), partition=PARTITION)


class Standing(NamedTuple):
    """What the ledger says of an entry; ``unfinished``: its operation has still to finish."""

    state: State
    operation: Operation | None = None
    unfinished: bool = False
    note: Note | None = None


class _Owner(NamedTuple):
    at: int
    operation: str


class Ledger:
    """All states, folded from the topic's records; grows by some 150 bytes per entry ever taken or settled."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}
        self.end = 0  # everything below this offset was read
        self._claims: dict[str, dict[int, Claim]] = {}
        self._owners: dict[Where, dict[int, _Owner]] = {}
        self._notes: dict[Where, dict[int, Note]] = {}

    def fold(self, records: Iterable[Record]) -> None:
        """Take in records in log order; what is not ours is passed over."""
        for record in records:
            self.end = record.offset + 1
            key, value = (record.key or b"").decode(errors="replace"), _json(record.value)
            head, _, rest = key.partition("/")
            if head in get_args(Kind):
                self._fold_operation(rest, value)
            elif head == "claim":
                self._fold_claim(rest, value, record.offset)
            elif (place := parse_ref(key)) is not None:
                self._fold_note(*place, value)

    def _fold_operation(self, name: str, value: Mapping[str, Any]) -> None:
        try:
            self.operations[name] = Operation(**value)
        except TypeError:
            return  # a stranger's

    def _fold_claim(self, rest: str, value: Mapping[str, Any], offset: int) -> None:
        operation, _, number = rest.rpartition("/")
        try:
            where = Where(str(value["topic"]), int(value["partition"]))
            offsets = tuple(int(taken) for taken in value["offsets"])
            twins = {int(k): tuple(map(int, v)) for k, v in value["twins"].items()}
            at = offset if value["at"] is None else int(value["at"])
            claim = Claim(operation, int(number), where, offsets, at, twins)
        except (KeyError, TypeError, ValueError, AttributeError):
            return  # a stranger's
        self._claims.setdefault(operation, {})[claim.number] = claim
        owners = self._owners.setdefault(where, {})
        for taken in offsets:
            owners[taken] = min(owners.get(taken, _Owner(at, operation)), _Owner(at, operation))

    def _fold_note(self, where: Where, offset: int, value: Mapping[str, Any]) -> None:
        if value.get("state") not in STATES:
            return
        texts = (str(value.get("replay_id") or ""), str(value.get("by") or ""))
        at = value.get("at")
        note = Note(value["state"], *texts, at if isinstance(at, int) else 0, str(value.get("reason") or ""))
        self._notes.setdefault(where, {})[offset] = note

    def claims(self, operation: str) -> Sequence[Claim]:
        """The claims of an operation in their order."""
        return [claim for _, claim in sorted(self._claims.get(operation, {}).items())]

    def won(self, claim: Claim) -> Claim:
        """The claim without what others took or settled before."""
        kept = tuple(offset for offset in claim.offsets if self._wins(claim, offset))
        return claim._replace(offsets=kept, twins={k: v for k, v in claim.twins.items() if k in set(kept)})

    def _wins(self, claim: Claim, offset: int) -> bool:
        owner = self._owners.get(claim.where, {}).get(offset)
        settled = self._notes.get(claim.where, {}).get(offset)
        return owner is not None and owner.operation == claim.operation and settled is None

    def standing(self, where: Where, offset: int) -> Standing:
        """The state of an entry as far as the ledger knows it; ``open`` where nothing was written."""
        note = self._notes.get(where, {}).get(offset)
        owner = self._owners.get(where, {}).get(offset)
        operation = self.operations.get(owner.operation) if owner else None
        if note is not None:
            return Standing(note.state, operation, note=note)
        if operation is None:
            return Standing("open")
        if operation.status == "running":
            return Standing("open", operation, unfinished=True)
        return Standing("replayed" if operation.kind == "replay" else "discarded", operation)


def finished(operation: Operation) -> Operation:
    """The operation, done."""
    return replace(operation, status="finished", beat=operation.beat + 1)


def _json(value: bytes | None) -> Mapping[str, Any]:
    try:
        found = json.loads(value or b"null")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

"""The audit trail: acts of administrators, each record bound to the one before it by a keyed hash.

Invariant: whoever changes, removes or inserts a record without the master key breaks the chain at that record.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from streams.keys import SecretError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.keys import Secrets

TOPIC = "audit"
MAC_HEADER = "kl-mac"
_BEGINNING = bytes(32)  # stands before the first record
_PURPOSE = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What an administrator does.

    Attributes:
        who: The caller's name, or the operator's.
        what: For example ``keys.create``.
        target: What it is done to, for example ``api_keys/3f9a…``.
        tenant: Whose that is; None where it is nobody's alone.
        source: Where the request came from: a network address, or ``cli``.
        request_id: Leads to the log; None at the command line.
        before: What there was, as JSON, without secrets.
        after: What there is then.
    """

    who: str
    what: str
    target: str
    tenant: str | None
    source: str
    request_id: str | None = None
    before: Any = None
    after: Any = None


class Audit(Protocol):
    """Keeps the trail."""

    async def record(self, act: Act) -> None:
        """Write the act down before it is carried out.

        Raises:
            TransientError: It may not be written: the act must not be carried out.
        """


class Entry(NamedTuple):
    """A record of the trail: JSON text, and its keyed hash."""

    sequence: int
    record: str
    mac: bytes

    @property
    def fingerprint(self) -> bytes:
        """The same for the same record, wherever it was read."""
        return sha256(self.mac + self.record.encode()).digest()

    @property
    def members(self) -> dict[str, Any]:
        """What the record says."""
        found: dict[str, Any] = json.loads(self.record)
        return found


def following(last: Entry | None, act: Act, vault: Secrets, at: int) -> Entry:
    """The record of the act behind ``last``; ``at`` in milliseconds since the epoch."""
    sequence = 1 if last is None else last.sequence + 1
    members = {"sequence": sequence, "at": at, "secret": vault.current, **asdict(act)}
    record = json.dumps(members, sort_keys=True, separators=(",", ":"), default=str)
    return Entry(sequence, record, _mac(last, record, vault, vault.current))


class Chain:
    """Checks the trail, record by record from the first on."""

    def __init__(self, vault: Secrets) -> None:
        self._vault = vault
        self._last: Entry | None = None

    @property
    def length(self) -> int:
        """How many records were found to be whole."""
        return 0 if self._last is None else self._last.sequence

    def fault(self, entry: Entry) -> str | None:
        """What is wrong with the next record, None for nothing."""
        if entry.sequence != self.length + 1:
            return f"record {self.length + 1} is missing: record {entry.sequence} stands in its place"
        try:
            members: Mapping[str, Any] = entry.members
            whole = members["sequence"] == entry.sequence and compare_digest(
                _mac(self._last, entry.record, self._vault, str(members["secret"])), entry.mac
            )
        except (ValueError, KeyError, TypeError):
            whole = False
        except SecretError as error:
            return f"record {entry.sequence} cannot be checked: {error}"
        if not whole:
            return f"record {entry.sequence} was changed, or the record before it was"
        self._last = entry
        return None


def _mac(last: Entry | None, record: str, vault: Secrets, secret_id: str) -> bytes:
    before = _BEGINNING if last is None else last.mac
    return vault.mac(secret_id, _PURPOSE, before + record.encode())

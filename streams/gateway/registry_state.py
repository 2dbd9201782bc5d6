"""What the ``_schemas`` log says: a fold over its records, the same in every process that reads the same log.

Invariant: an id stands for one schema for ever, and (subject, version) for one id, whoever wrote at the same time. A
registration that contradicts an earlier one in the log is lost: it is ignored here, and its writer tries again.

For that to survive compaction, no registration is ever overwritten: each attempt has a record key of its own
(``attempt``), deletions are records beside it, and only a permanent deletion writes a tombstone over it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.compatibility import Level


@dataclass(slots=True)
class Version:
    """One version of a subject.

    Attributes:
        text: The schema as registered, in compact JSON.
        key: The key of its record in the log.
        deleted: Softly: hidden, its number taken, its id still readable.
    """

    subject: str
    version: int
    id: int
    text: str
    key: bytes
    deleted: bool = False


@dataclass(slots=True)
class RegistryState:
    """The registry at one place in the log.

    Attributes:
        lost: Keys of registrations that came too late and can be wiped from the log.
        highest_id: No new schema gets an id up to this one.
    """

    subjects: dict[str, dict[int, Version]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    levels: dict[str | None, Level] = field(default_factory=dict)
    lost: set[bytes] = field(default_factory=set)
    highest_id: int = 0
    _ids: dict[str, int] = field(default_factory=dict)
    _by_key: dict[bytes, Version] = field(default_factory=dict)

    def id_of(self, text: str) -> int | None:
        """The id of a schema that is registered under any subject."""
        return self._ids.get(identity(text))

    def versions(self, subject: str, *, deleted: bool = False) -> list[Version]:
        """The versions of a subject in order, without or with the softly deleted ones."""
        found = self.subjects.get(subject, {})
        return [found[number] for number in sorted(found) if deleted or not found[number].deleted]

    def uses(self, schema_id: int, *, deleted: bool = False) -> list[Version]:
        """Where a schema id is registered."""
        every = (version for subject in sorted(self.subjects) for version in self.versions(subject, deleted=deleted))
        return [version for version in every if version.id == schema_id]

    def accepted(self, key: bytes) -> bool:
        """Whether the registration with this record key counts."""
        return key in self._by_key

    def propose(self, subject: str, text: str, attempt: str) -> Version:
        """The registration that would come next; it counts when ``apply`` took it from the log."""
        number = max(self.subjects.get(subject, {}), default=0) + 1
        schema_id = self.id_of(text) or self.highest_id + 1
        key = encode_key("SCHEMA", subject=subject, version=number, attempt=attempt)
        return Version(subject, number, schema_id, text, key)

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take the next record of the log; record types this registry does not write are passed over.

        Raises:
            ValueError, LookupError, TypeError, AttributeError: A record of a known type cannot be understood.
        """
        if key is None:
            return
        name, content = json.loads(key), json.loads(value) if value else None
        match name.get("keytype"):
            case "SCHEMA":
                self._schema(key, content)
            case "CONFIG":
                self._config(name["subject"], content)
            case "DELETE_SUBJECT" if content is not None:
                self._delete(content["subject"], lambda number: number <= content["version"])
            case "DELETE_VERSION" if content is not None:
                self._delete(content["subject"], lambda number: number == content["version"])
            case "RETIRED_ID":
                self.highest_id = max(self.highest_id, name["id"])

    def _schema(self, key: bytes, value: Any) -> None:
        if value is None:
            self._remove(key)
            return
        version = Version(
            value["subject"], value["version"], value["id"], value["schema"], key, value.get("deleted", False)
        )
        if not self._fits(version):
            self.lost.add(key)
            return
        self.highest_id = max(self.highest_id, version.id)
        self.texts.setdefault(version.id, version.text)
        self._ids.setdefault(identity(version.text), version.id)
        self.subjects.setdefault(version.subject, {})[version.version] = version
        self._by_key[key] = version

    def _fits(self, new: Version) -> bool:
        there = self.subjects.get(new.subject, {}).get(new.version)
        if there is not None and there.key != new.key:
            return False
        known = self._ids.get(identity(new.text))
        return known == new.id if known is not None else new.id not in self.texts

    def _remove(self, key: bytes) -> None:
        self.lost.discard(key)
        version = self._by_key.pop(key, None)
        if version is None:
            return
        versions = self.subjects[version.subject]
        del versions[version.version]
        if not versions:
            del self.subjects[version.subject]
        if not self.uses(version.id, deleted=True):
            del self._ids[identity(self.texts.pop(version.id))]

    def _config(self, subject: str | None, value: Any) -> None:
        if value is None:
            self.levels.pop(subject, None)
        else:
            self.levels[subject] = value["compatibilityLevel"]

    def _delete(self, subject: str, concerned: Callable[[int], bool]) -> None:
        for version in self.versions(subject):
            version.deleted = concerned(version.version)


def encode_key(keytype: str, **fields: object) -> bytes:
    """The key of a record in the log, in Confluent's form."""
    return compact({"keytype": keytype, **fields, "magic": 1 if keytype == "SCHEMA" else 0})


def encode_version(version: Version) -> bytes:
    """The value of a registration's record, in Confluent's form."""
    return compact(
        {
            "subject": version.subject,
            "version": version.version,
            "id": version.id,
            "schema": version.text,
            "deleted": version.deleted,
        }
    )


def compact(value: Any) -> bytes:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def identity(text: str) -> str:
    """Two schema texts are the same schema when this is equal: blanks and the order of properties do not matter."""
    return json.dumps(json.loads(text), separators=(",", ":"), sort_keys=True)

"""The registry itself, over its log: register, look up, configure, delete; a ``schemas.registry.Registry`` in process.

Invariant: what a write returns stands in the log before any contradiction of it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

from schemas.avsc import Parsed, normal_form, parse
from schemas.compatibility import LEVELS, Level, violations
from schemas.errors import RegistryUnavailableError, SchemaRefusedError
from streams.gateway import registry_problems as problems
from streams.gateway.registry_state import compact, encode_key, encode_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.gateway.registry_log import RegistryLog
    from streams.gateway.registry_state import RegistryState, Version

DEFAULT_LEVEL: Level = "BACKWARD"
_ATTEMPTS = 20


class RegistryStore:
    """A Confluent-compatible registry of Avro schemas.

    All methods that answer from the log read it to its end first. They raise RegistryUnavailableError when the log
    cannot be read or written, and RegistryError (with Confluent's code) for everything else.
    """

    def __init__(self, log: RegistryLog) -> None:
        self._log = log
        self._writing = asyncio.Lock()

    async def register(self, subject: str, schema: str, *, normalize: bool = False) -> int:
        """The id of the schema under the subject; registered now if it was not.

        Raises:
            RefusedError: The schema is invalid (42201) or breaks the subject's compatibility level (409).
        """
        parsed = await checked(schema, normalize=normalize)
        async with self._writing:
            for _ in range(_ATTEMPTS):
                state = await self.read()
                there = await _find(state, subject, parsed, normalize=normalize)
                if there is not None:
                    return there.id
                proposal = await self._propose(state, subject, parsed)
                await self._log.append(proposal.key, encode_version(proposal))
                if state.accepted(proposal.key):
                    return proposal.id
                await self._sweep()
        raise RegistryUnavailableError(f"subject {subject}: other registries were faster {_ATTEMPTS} times; try again")

    async def lookup(self, subject: str, schema: str) -> int:
        """The id of a schema registered under the subject."""
        return (await self.find(subject, schema)).id

    async def find(self, subject: str, schema: str, *, normalize: bool = False, deleted: bool = False) -> Version:
        """The version of the subject that holds this schema.

        Raises:
            NotThereError: No such subject (40401), or not this schema (40403).
            RefusedError: The schema is invalid (42201).
        """
        parsed = await checked(schema, normalize=normalize)
        state = await self.read()
        if not state.versions(subject, deleted=deleted):
            raise problems.subject_unknown(subject)
        there = await _find(state, subject, parsed, normalize=normalize, deleted=deleted)
        if there is None:
            raise problems.schema_unknown()
        return there

    async def schema(self, schema_id: int) -> str:
        """The schema of an id; that of a known one needs no look at the log.

        Raises:
            NotThereError: No such id (40403).
        """
        state = self._log.state if schema_id in self._log.state.texts else await self.read()
        if schema_id not in state.texts:
            raise problems.schema_unknown(f"id {schema_id}")
        return state.texts[schema_id]

    async def close(self) -> None:
        """Nothing to give up: publisher and reader belong to the caller."""

    async def read(self) -> RegistryState:
        """The state at what is now the end of the log."""
        await self._log.refresh()
        return self._log.state

    async def versions(self, subject: str, *, deleted: bool = False) -> list[Version]:
        """The versions of a subject, in order.

        Raises:
            NotThereError: It has none (40401).
        """
        found = (await self.read()).versions(subject, deleted=deleted)
        if not found:
            raise problems.subject_unknown(subject)
        return found

    async def version(self, subject: str, number: int | None, *, deleted: bool = False) -> Version:
        """One version of a subject; None is the latest.

        Raises:
            NotThereError: No such subject (40401) or version (40402).
        """
        found = await self.versions(subject, deleted=deleted)
        if number is None:
            return found[-1]
        for each in found:
            if each.version == number:
                return each
        raise problems.version_unknown(number)

    async def violations(
        self, subject: str, schema: str, number: int | None, *, every: bool = False
    ) -> tuple[str, ...]:
        """Why the schema may not follow version ``number`` (None: the latest) or ``every`` version of the subject.

        Raises:
            NotThereError: No such subject (40401; not with ``every``) or version (40402).
            RefusedError: The schema is invalid (42201).
        """
        parsed = await checked(schema)
        if every:
            state = await self.read()
            return await _violations(state, subject, parsed, state.versions(subject))
        version = await self.version(subject, number)
        return await _violations(self._log.state, subject, parsed, [version])

    async def level(self, subject: str | None) -> Level | None:
        """The compatibility level set for the subject, or globally for None."""
        return (await self.read()).levels.get(subject)

    async def set_level(self, subject: str | None, level: object) -> None:
        """Set or (None) unset a level.

        Raises:
            RegistryError: Not a level (42203).
        """
        if level is not None and level not in LEVELS:
            raise problems.invalid_level(level, LEVELS)
        value = None if level is None else compact({"compatibilityLevel": level})
        await self._log.append(encode_key("CONFIG", subject=subject), value)

    async def delete_subject(self, subject: str, *, permanent: bool) -> list[int]:
        """Hide all versions of a subject, or wipe the hidden ones; their numbers.

        Raises:
            NotThereError: Unknown (40401), hidden already (40404), or not hidden before wiping (40405).
        """
        async with self._writing:
            found = await self.versions(subject, deleted=True)
            alive = [version.version for version in found if not version.deleted]
            if permanent and alive:
                raise problems.not_deleted_first(f"Subject '{subject}'")
            if not permanent and not alive:
                raise problems.soft_deleted_already(f"Subject '{subject}'")
            key = encode_key("DELETE_SUBJECT", subject=subject)
            if permanent:
                return await self._wipe(found, [key, encode_key("CONFIG", subject=subject)])
            await self._log.append(key, compact({"subject": subject, "version": alive[-1]}))
            return alive

    async def delete_version(self, subject: str, number: int | None, *, permanent: bool) -> int:
        """Hide one version (None: the latest), or wipe it once hidden; its number.

        Raises:
            NotThereError: Unknown (40401, 40402), hidden already (40406), or not hidden before wiping (40407).
        """
        async with self._writing:
            version = await self.version(subject, number, deleted=number is not None)
            what = f"Subject '{subject}' version {version.version}"
            if permanent and not version.deleted:
                raise problems.not_deleted_first(what)
            if not permanent and version.deleted:
                raise problems.soft_deleted_already(what)
            fields = {"subject": subject, "version": version.version}
            key = encode_key("DELETE_VERSION", **fields)
            if permanent:
                await self._wipe([version], [key])
            else:
                await self._log.append(key, compact(fields))
            return version.version

    async def _propose(self, state: RegistryState, subject: str, parsed: Parsed) -> Version:
        # First the place, then the check against what stands before it: who comes between makes this one lose.
        proposal = state.propose(subject, parsed.text, uuid.uuid4().hex)
        found = await _violations(state, subject, parsed, state.versions(subject))
        if found:
            raise problems.incompatible(subject, found)
        return proposal

    async def _wipe(self, versions: Iterable[Version], marks: Iterable[bytes]) -> list[int]:
        # A lost registration must not come to count when the one it lost against is gone; nor may an id come again.
        await self._sweep()
        wiped = [version.version for version in versions]
        for version in list(versions):
            await self._log.append(encode_key("RETIRED_ID", id=version.id), compact({"id": version.id}))
            await self._log.append(version.key, None)
        for mark in marks:
            await self._log.append(mark, None)
        return wiped

    async def _sweep(self) -> None:
        for key in sorted(self._log.state.lost):
            await self._log.append(key, None)


async def checked(schema: str, *, normalize: bool = False) -> Parsed:
    """A schema somebody sent, parsed; in compact JSON, or in normal form.

    Raises:
        RefusedError: It is invalid, recursive or too large (42201).
    """

    def work() -> Parsed:
        parsed = parse(schema)
        return parse(normal_form(parsed) if normalize else compact(json.loads(schema)).decode())

    try:
        return await asyncio.to_thread(work)  # a large one takes longer than the loop may stand still
    except SchemaRefusedError as error:
        raise problems.invalid_schema(str(error)) from None


async def _find(
    state: RegistryState, subject: str, parsed: Parsed, *, normalize: bool, deleted: bool = False
) -> Version | None:
    known, versions = state.id_of(parsed.text), state.versions(subject, deleted=deleted)
    for version in reversed(versions):
        if version.id == known:
            return version
    return await asyncio.to_thread(_in_normal_form, versions, parsed.text) if normalize else None


def _in_normal_form(versions: Sequence[Version], text: str) -> Version | None:
    return next((version for version in reversed(versions) if normal_form(parse(version.text)) == text), None)


async def _violations(state: RegistryState, subject: str, new: Parsed, earlier: Sequence[Version]) -> tuple[str, ...]:
    level = state.levels.get(subject) or state.levels.get(None) or DEFAULT_LEVEL
    texts: list[Any] = [version.text for version in earlier]
    return await asyncio.to_thread(lambda: violations(level, new, [parse(text) for text in texts]))

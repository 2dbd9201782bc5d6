"""Publishes JSON values as records: checked and encoded by their contract, many at once.

Invariant: records leave in the order of their values; memory does not grow with their number.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.envelope import CloudEvent, Plain, UnpublishableError, envelope
from streams.event import record_key, to_headers
from streams.ports import Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable

    from pydantic import BaseModel

    from schemas.codec import Codec
    from schemas.contract import Contract
    from streams.core.jsonfeed import Value
    from streams.job import Job
    from streams.ports import Position, Publisher

IN_FLIGHT = 2_000  # records sent and not yet acknowledged


class Checked(NamedTuple):
    """A value that fits its contract, with where its record goes; ``entity`` is the one that was named."""

    envelope: Plain | CloudEvent
    contract: Contract
    model: BaseModel
    topic: str
    key: bytes
    entity: str | None


class Checker:
    """Sees whether values can be published.

    Args:
        contracts: What may be published.
        jobs: Where jobs go, and which entity of theirs is the key where none is named.
    """

    def __init__(self, contracts: Iterable[Contract], jobs: Iterable[Job]) -> None:
        self._contracts = {contract.name: contract for contract in contracts if contract.kind != "internal"}
        self._jobs = {job.type: job for job in jobs}

    def check(self, value: Any) -> Checked:
        """The value as what it is, in either form.

        Raises:
            UnpublishableError: It is not what it should be.
        """
        found = envelope(value)
        contract = self._contract(found.type)
        try:
            model = contract.from_value(found.data)
            named = found.named_entity()
            topic, entity = self._target(contract, model, named)
            key = record_key(found.tenant, entity)
        except ValueError as error:
            raise UnpublishableError(str(error)) from None
        return Checked(found, contract, model, topic, key, named)

    def _contract(self, name: str) -> Contract:
        try:
            return self._contracts[name]
        except KeyError:
            raise UnpublishableError(f"/type: there is no event or job {name!r}") from None

    def _target(self, contract: Contract, model: BaseModel, entity: str | None) -> tuple[str, str]:
        """The topic and the entity part of the key."""
        if contract.kind == "event":
            if entity is None:
                raise UnpublishableError(f"{contract.name}: an event needs an entity (CloudEvents: a subject)")
            return contract.topic, entity
        job = self._jobs.get(contract.name)
        if job is None:
            raise UnpublishableError(f"/type: no queue takes jobs of type {contract.name!r}")
        return f"jobs.{job.queue}", entity or job.key(model)


class RecordEncoder:
    """Makes records of values.

    Args:
        codec: Encodes payloads.
        new_id: Gives an id to what has none.
    """

    def __init__(self, codec: Codec, checker: Checker, new_id: Callable[[], str]) -> None:
        self._codec = codec
        self._checker = checker
        self._new_id = new_id

    async def encode(self, value: Any) -> Message:
        """The record of a value in either form.

        Raises:
            UnpublishableError: The value is not what it should be.
            SchemaRefusedError: The registry does not accept the contract's schema.
            RegistryUnavailableError: The registry cannot be reached.
        """
        found = self._checker.check(value)
        try:
            payload = await self._codec.encode(found.contract, found.model)
        except ValueError as error:
            raise UnpublishableError(str(error)) from None
        return Message(found.topic, found.key, payload, to_headers(found.envelope.attributes(self._new_id)))


class Report(NamedTuple):
    """How a publication went: records acknowledged, values that were bad, and the one it stopped at.

    ``behind``: of those published, so many stand behind that one.
    """

    published: int
    bad: int
    stopped_at: Bad | None = None
    behind: int = 0


class Bad(NamedTuple):
    """A value that cannot be published, and the line it starts in."""

    line: int
    reason: str


class Publication:
    """Publishes values in their order, many at once.

    Args:
        encoder: Makes the records.
        publisher: Takes them.
        skip_bad: Go on behind a bad value instead of stopping there.
        on_bad: Called with each bad value.
    """

    def __init__(
        self, encoder: RecordEncoder, publisher: Publisher, *, skip_bad: bool, on_bad: Callable[[Bad], None]
    ) -> None:
        self._encoder = encoder
        self._publisher = publisher
        self._skip_bad = skip_bad
        self._on_bad = on_bad
        self._pending: deque[Awaitable[Position]] = deque()
        self.published = 0

    async def run(self, values: AsyncIterable[Value]) -> Report:
        """Publish until the end or the first bad value; what was sent before is waited for in any case.

        Raises:
            TransientError: A record was not acknowledged; ``published`` counts those that were, in order.
            RecordRefusedError: The broker will never take a record.
        """
        try:
            bad, stopped_at = await self._send(values)
            await self._settle(0)
        finally:
            # After an error the others' answers no longer matter, but each has to be looked at.
            await asyncio.gather(*self._pending, return_exceptions=True)
        return Report(self.published, bad, stopped_at)

    async def _send(self, values: AsyncIterable[Value]) -> tuple[int, Bad | None]:
        bad = 0
        async for value in values:
            try:
                message = await self._message(value)
            except UnpublishableError as error:
                found = Bad(value.line, str(error))
                self._on_bad(found)
                bad += 1
                if not self._skip_bad:
                    return bad, found
                continue
            self._pending.append(await self._publisher.send(message))
            await self._settle(IN_FLIGHT)
        return bad, None

    async def _message(self, value: Value) -> Message:
        if value.problem is not None:
            raise UnpublishableError(value.problem)
        return await self._encoder.encode(value.value)

    async def _settle(self, most: int) -> None:
        while len(self._pending) > most:
            await self._pending.popleft()
            self.published += 1

"""Payloads to bytes and back: Confluent wire format (byte 0, schema id, Avro), with everything checked on the way in.

Invariant: ``decode_now`` returns a valid payload, None, or raises UndecodableError, whatever the bytes are.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from fastavro import schemaless_reader, schemaless_writer
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.avsc import Parsed, parse
from schemas.compatibility import incompatibilities
from schemas.contract import problems
from schemas.errors import SchemaRefusedError, UndecodableError, UnknownContractError
from schemas.flat import flat
from schemas.guard import Guard
from schemas.shared import SharedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from schemas.contract import Contract
    from schemas.registry import Registry

MAX_BYTES = 1_048_576
_PREFIX = 5
_LONGEST_REASON = 200


class Payload(NamedTuple):
    """A decoded record value."""

    contract: Contract
    model: BaseModel
    schema_id: int


@dataclass(frozen=True, slots=True)
class Reader:
    """All that decoding the records of one schema id takes, prepared once; ``contract`` is what they are."""

    contract: Contract
    schema_id: int
    decode: Callable[[bytes], Any]
    validate: Callable[[Any], Any]

    def read(self, value: bytes) -> Any:
        """The model a value of this schema id holds.

        Raises:
            UndecodableError: The bytes can never be decoded.
        """
        try:
            fields = self.decode(value)
        except UndecodableError as error:
            raise UndecodableError(f"{self.contract.name}: {error}") from None
        except Exception as error:  # noqa: BLE001 - hostile bytes make fastavro raise nearly anything
            what = f"{type(error).__name__} {error}"[:_LONGEST_REASON]
            raise UndecodableError(f"{self.contract.name}: not Avro of schema {self.schema_id}: {what}") from None
        try:
            return self.validate(fields)
        except ValidationError as error:
            raise UndecodableError(f"{self.contract.name}: {problems(error)[0]}") from None


class Codec:
    """Encodes and decodes the payloads of the contracts given.

    Args:
        registry: Gives schema ids.
        contracts: What may be encoded and decoded; a record's contract is found by the full name of its schema.
        max_bytes: A longer value is neither made nor read.
    """

    def __init__(self, registry: Registry, contracts: Iterable[Contract], *, max_bytes: int = MAX_BYTES) -> None:
        self._registry = registry
        self._max_bytes = max_bytes
        parsed = [(contract, parse(contract.newest)) for contract in contracts]
        self._contracts = {newest.fullname: contract for contract, newest in parsed}
        self._newest = {newest.fullname: newest for _, newest in parsed}
        # By contract name: the first bytes of its values and the schema they are written with.
        self._writers: dict[str, tuple[bytes, Any]] = {}
        # By the first bytes of values: a reader, or why records of this schema cannot be read.
        self._readers: dict[bytes, Reader | UndecodableError] = {}
        self._loading: SharedCalls[None] = SharedCalls()
        self._registering: SharedCalls[tuple[bytes, Any]] = SharedCalls()

    async def encode(self, contract: Contract, model: BaseModel) -> bytes:
        """The value of a record; the schema is registered on first use.

        Raises:
            ValueError: The model does not fit the contract's newest schema, or the value would be too long.
            SchemaRefusedError: The registry does not accept the contract's schema.
            RegistryUnavailableError: The registry cannot be reached.
        """
        return await self.encode_fields(contract, model.model_dump())

    async def encode_fields(self, contract: Contract, fields: Mapping[str, Any]) -> bytes:
        """The same for fields that need no model to be right: the model's rules are the caller's to keep."""
        prefix, schema = self._writers.get(contract.name) or await self._writer(contract)
        stream = BytesIO()
        stream.write(prefix)
        try:
            schemaless_writer(stream, schema, fields, strict=True)
        except (TypeError, OverflowError, struct.error) as error:
            raise ValueError(f"{contract.name}: does not fit its schema: {error}") from None
        value = stream.getvalue()
        if len(value) > self._max_bytes:
            raise ValueError(f"{contract.name}: {len(value)} bytes are more than the {self._max_bytes} allowed")
        return value

    async def register(self) -> None:
        """Register every contract now, so that no ``encode`` has to wait for the registry.

        Raises:
            SchemaRefusedError, RegistryUnavailableError: As ``encode``.
        """
        for contract in self._contracts.values():
            await self._writer(contract)

    def decode_now(self, value: bytes) -> Payload | None:
        """Decode, if the schema is at hand; None: as with ``reader``; so are the errors."""
        reader = self.reader(value)
        return None if reader is None else Payload(reader.contract, reader.read(value), reader.schema_id)

    def reader(self, value: bytes | None) -> Reader | None:
        """What reads this value, if the schema is at hand; None means: await ``load`` with it, then call again.

        Raises:
            UndecodableError: The bytes can never be decoded (UnknownContractError: sound, but nobody's contract).
        """
        if value is None:
            raise UndecodableError("the record has no value")
        if len(value) > self._max_bytes:
            raise UndecodableError(f"{len(value)} bytes are more than the {self._max_bytes} allowed")
        reader = self._readers.get(value[:_PREFIX])
        if reader is None:
            _prefix(value)
        elif isinstance(reader, UndecodableError):
            raise reader.with_traceback(None)
        return reader

    async def load(self, value: bytes) -> None:
        """Fetch what ``reader`` lacks for this value.

        Raises:
            UndecodableError: It bears no schema id (UnknownSchemaError: the registry knows no such id).
            RegistryUnavailableError: The registry cannot be reached.
        """
        key = _prefix(value)
        if key not in self._readers:
            await self._loading.run(key, lambda: self._fetch(key))

    async def _fetch(self, key: bytes) -> None:
        schema_id = int.from_bytes(key)  # the byte before it is 0
        text = await self._registry.schema(schema_id)
        # Large schemas take a while to check: not on the loop.
        self._readers[key] = await asyncio.to_thread(self._prepare, schema_id, text)

    async def _writer(self, contract: Contract) -> tuple[bytes, Any]:
        return await self._registering.run(contract.name, lambda: self._register(contract))

    async def _register(self, contract: Contract) -> tuple[bytes, Any]:
        schema_id = await self._registry.register(contract.fullname, contract.newest)
        writer = b"\0" + schema_id.to_bytes(_PREFIX - 1), self._newest[contract.fullname].schema
        return self._writers.setdefault(contract.name, writer)

    def _prepare(self, schema_id: int, text: str) -> Reader | UndecodableError:
        try:
            writer = parse(text)
        except SchemaRefusedError as error:
            return UndecodableError(f"schema {schema_id}: {error}")
        contract = self._contracts.get(writer.fullname)
        if contract is None:
            return UnknownContractError(writer.fullname)
        newest = self._newest[writer.fullname]
        found = incompatibilities(reader=newest, writer=writer)
        if found:
            return UndecodableError(f"schema {schema_id} cannot be read as {contract.name}: {found[0]}")
        return self._reader(schema_id, contract, writer, newest)

    @staticmethod
    def _reader(schema_id: int, contract: Contract, writer: Parsed, newest: Parsed) -> Reader:
        same = writer.schema == newest.schema
        return Reader(
            contract=contract,
            schema_id=schema_id,
            decode=(flat(writer, start=_PREFIX) if same else None) or _general(writer, None if same else newest.schema),
            validate=TypeAdapter(contract.model).validator.validate_python,
        )


def _prefix(value: bytes) -> bytes:
    if len(value) < _PREFIX or value[0] != 0:
        raise UndecodableError("not in Confluent wire format (a zero byte and a schema id of four bytes)")
    return value[:_PREFIX]


def _general(writer: Parsed, newest: Any) -> Callable[[bytes], Any]:
    # With the newest schema only where it differs: resolving costs, also where it changes nothing.
    check, schema = Guard(writer, start=_PREFIX).check, writer.schema

    def decode(value: bytes) -> Any:
        check(value)
        stream = BytesIO(value)
        stream.seek(_PREFIX)
        return schemaless_reader(stream, schema, newest)

    return decode
